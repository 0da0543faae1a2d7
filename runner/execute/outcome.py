import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
from docker.errors import DockerException
from requests.exceptions import RequestException

from runner.execute.absence import Absence
from runner.execute.clock import now, since
from runner.execute.container import Container, ContainerSpec, State
from runner.execute.verdict import Ending, judge
from runner.job import Job, Outcome, Result
from runner.plan.mask import Mask
from runner.record.collect import Collected, collect
from runner.record.evallog import summarise
from runner.record.files import make_folder, named
from runner.record.layout import Layout


def outcome_of(
    container: Container,
    job: Job,
    attempt: str,
    ending: Ending,
    state: State | None,
    *,
    duration: float,
    layout: Layout,
    absence: Absence,
    handed_in: Mapping[str, str],
) -> Outcome:
    """Put together what is known of an attempt that ended, with its logs in their place.

    What a container that still runs has in its folder stays there, for it could change it. No value
    that it was handed in gets into the outcome.
    """
    mask = Mask(handed_in, public=job.command)
    console = layout.console_log(attempt, job.eval)
    make_folder(console.parent)
    # In this order, for what requests raises is an OSError as well.
    with named(console, "write"), contextlib.suppress(DockerException, RequestException):
        absence.through(lambda: container.save_console(console))
    collected = Collected() if ending.unkillable else collect(layout, attempt, shown=mask.text)
    found = summarise(layout.root / log for log in collected.logs)
    verdict = judge(msgspec.structs.replace(ending, reported=found.reported), job.settings)
    warnings = [*collected.warnings, *found.warnings]
    if verdict.result is Result.SUCCESS and not found.reported:
        warnings.append("its log has no final_report")
    return Outcome(
        attempt=attempt,
        job=job,
        result=verdict.result,
        fault=verdict.fault,
        reason=mask.text(verdict.reason),
        exit_code=ending.exit_code,
        oom_killed=ending.oom_killed,
        started_at=state.started_at if state else None,
        ended_at=(state and state.ended_at) or now(),
        duration=round(duration, 3),
        image=state.image if state else "",
        logs=collected.logs,
        console_log=str(console.relative_to(layout.root)) if console.exists() else None,
        final_report=mask.value(found.final_report),
        samples=found.samples,
        warnings=tuple(map(mask.text, warnings)),
    )


def never_ran(job: Job, attempt: str, reason: str, spec: ContainerSpec) -> Outcome:
    """The outcome of an attempt whose container did not start."""
    said = Mask(spec.environment, public=job.command).text(reason)
    verdict = judge(Ending(lost=said), job.settings)
    return Outcome(
        attempt=attempt,
        job=job,
        result=verdict.result,
        fault=verdict.fault,
        reason=verdict.reason,
        ended_at=now(),
        image=spec.image,
    )


def ran_for(state: State | None, created: str, *, watched: bool) -> float:
    """Seconds that a container has run which an earlier run created.

    Args:
        state: as the engine knows it.
        created: when it was created, as `clock.stamp` has it.
        watched: whether it still runs, or has ended only now: then no clock that is set counts.
    """
    if state is None or state.started_at is None:
        return 0.0
    passed = since(created)
    if watched and passed is not None:
        return passed
    end = datetime.now(UTC)
    if not state.running and state.ended_at:
        end = datetime.fromisoformat(state.ended_at)
    by_the_engine = max(0.0, (end - datetime.fromisoformat(state.started_at)).total_seconds())
    return by_the_engine if passed is None else min(by_the_engine, passed)
