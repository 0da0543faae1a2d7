import contextlib
from datetime import UTC, datetime

import msgspec
from docker.errors import DockerException
from requests.exceptions import RequestException

from runner.execute.absence import Absence
from runner.execute.clock import now, since
from runner.execute.container import Container, State
from runner.execute.verdict import Ending, judge
from runner.job import Job, Outcome, Result
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
) -> Outcome:
    """Put together what is known of an attempt that ended, with its logs in their place.

    What a container that still runs has in its folder stays there, for it could change it.
    """
    console = layout.console_log(attempt, job.eval)
    make_folder(console.parent)
    # In this order, for what requests raises is an OSError as well.
    with named(console, "write"), contextlib.suppress(DockerException, RequestException):
        absence.through(lambda: container.save_console(console))
    collected = Collected() if ending.unkillable else collect(layout, attempt)
    found = summarise(layout.root / log for log in collected.logs)
    reported = found.final_report is not None
    verdict = judge(msgspec.structs.replace(ending, reported=reported), job.settings)
    warnings = list(collected.warnings)
    if verdict.result is Result.SUCCESS and not reported:
        warnings.append("its log has no final_report")
    return Outcome(
        attempt=attempt,
        job=job,
        result=verdict.result,
        fault=verdict.fault,
        reason=verdict.reason,
        exit_code=ending.exit_code,
        oom_killed=ending.oom_killed,
        started_at=state.started_at if state else None,
        ended_at=(state and state.ended_at) or now(),
        duration=round(duration, 3),
        image=state.image if state else "",
        logs=collected.logs,
        console_log=str(console.relative_to(layout.root)) if console.exists() else None,
        final_report=found.final_report,
        samples=found.samples,
        warnings=tuple(warnings),
    )


def never_ran(job: Job, attempt: str, reason: str, image: str) -> Outcome:
    """The outcome of an attempt whose container did not start, in the image with that id."""
    verdict = judge(Ending(lost=reason), job.settings)
    return Outcome(
        attempt=attempt,
        job=job,
        result=verdict.result,
        fault=verdict.fault,
        reason=verdict.reason,
        ended_at=now(),
        image=image,
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
