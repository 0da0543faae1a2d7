from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated

import msgspec

from runner.engine.engine import Engine
from runner.errors import EnvironmentFault
from runner.gateway.providers import access_offline
from runner.host import USUAL_PREFIX, Host, from_host
from runner.image.image import look_up_image
from runner.model import Attempt, Command, ContainerSettings, Result
from runner.options import Code, Env, Jobs, RegistryPaths, Requirements, RunOptions
from runner.plan.pins import RunFile, differences
from runner.plan.plan import Plan
from runner.records.layout import Layout
from runner.records.logs import last_lines
from runner.records.replay import read_unmatched, write_replay
from runner.records.sameness import Sameness, compare_logs, compare_values
from runner.records.state import RunState, StateReader
from runner.registry.resolve import Resolution
from runner.report.display import Display
from runner.run.containers import with_locks
from runner.run.pinning import pin
from runner.run.prepare import Prepared, planned, prepare
from runner.run.run import run
from runner.run.verify_verdict import Case, Verdict, Verified, decide

# The providers of evals that have asked none.
ANY_ROUTE = frozenset({"openai"})

# A command has this option once for each registry folder.
REGISTRY = "--registry_path"

# Exit codes from here on mean a signal.
SIGNALLED = 128


class RerunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the user names for a rerun, because no record has it."""

    registry_paths: Annotated[
        RegistryPaths, "A registry folder that the run had, in the same order."
    ] = ()
    code: Annotated[Code, "A folder with Python code that the run had."] = ()
    requirements: Annotated[Requirements, "The file of packages that the run had."] = None
    env: Annotated[Env, "Hand in this variable of the host, by name, if it is set."] = ()
    jobs: Jobs = None


class RerunGroup(msgspec.Struct, frozen=True):
    """What the commands of one run have in common.

    Attributes:
        arguments: the ones that were passed through.
        folders: how many registry folders they name.
    """

    program: str
    model: str
    arguments: tuple[str, ...]
    folders: int

    @classmethod
    def of(cls, command: Command) -> "RerunGroup":
        """The group that a command belongs to."""
        arguments, folders = command.arguments, 0
        while arguments[-2:-1] == (REGISTRY,):
            arguments, folders = arguments[:-2], folders + 1
        return cls(command.program, command.model, arguments, folders)


class Rerun:
    """A run of finished evals, offline, with the answers that are on record.

    Args:
        layout: of the record.
        before: what the run on record was pinned to.
        root: progress directory of the rerun.
    """

    def __init__(
        self,
        layout: Layout,
        before: RunFile,
        group: RerunGroup,
        *,
        given: RerunOptions,
        host: Host,
        root: Path,
    ) -> None:
        self._layout = layout
        self._before = before
        self._group = group
        self._given = given
        self._host = host
        self._root = root

    def of(
        self, cases: Sequence[Case], display: Display, *, new_id: Callable[[], str], began: float
    ) -> tuple[list[Verified], int]:
        """Run them, and compare the results with the record.

        Returns:
            A verdict on each that was run to its end, or cannot be run; and the exit code of a
            rerun that was interrupted, else 0.
        """
        if self._group.folders not in {0, len(self._given.registry_paths)}:
            why = (
                f"its run had registry folders ({self._group.folders}), and "
                f"{len(self._given.registry_paths)} are named here; name those of the run with "
                "--registry-path, in the same order"
            )
            return [case.verified(Verdict.CANNOT_TELL, why) for case in cases], 0
        prepared, host = self._prepared(cases)
        plan = _plan(prepared)
        prepared = with_locks(prepared, plan, self._before, host, tell=display.note)
        unlike = self._differences(cases, prepared, plan, run_id=new_id())
        known = [
            case.verified(Verdict.CANNOT_TELL, unlike[case.eval])
            for case in cases
            if case.eval in unlike
        ]
        ready = [case for case in cases if case.eval not in unlike]
        if not ready:
            return known, 0
        prepared = msgspec.structs.replace(prepared, resolution=_resolution(ready))
        answers = {job.eval: prepared.layout.answers_of(job.command) for job in plan.jobs}
        for case in ready:
            if case.replay.answers:
                source = self._layout.answers_of(case.command)
                write_replay(case.replay, source, answers[case.eval])
        reader = StateReader()
        code = run(prepared, host, display, reader=reader, new_id=new_id, began=began).exit_code
        ended = RunState.from_directory(prepared.layout, reader).attempts
        again = {attempt.eval: attempt for attempt in ended}
        known += [
            self._compared(case, again[case.eval], prepared.layout, answers[case.eval])
            for case in ready
            if case.eval in again
        ]
        return known, code if code >= SIGNALLED else 0

    def _prepared(self, cases: Sequence[Case]) -> tuple[Prepared, Host]:
        """A run that could start, without network and without a key, and the host that it sees."""
        options = self._options()
        if look_up_image(Engine().api, options.image) is None:
            raise EnvironmentFault(
                f"the image {options.image}, in which these evals were run, is not here",
                "pull it, or build it with `evalset image build`",
            )
        environ = self._host.environ
        named = {
            name: from_host(environ, name)
            for name in self._given.env
            if name in environ or "=" in name  # which is refused
        }
        usual = {name: value for name, value in environ.items() if name.startswith(USUAL_PREFIX)}
        host = msgspec.structs.replace(self._host, environ=usual | named)
        prepared = prepare(options, host, resolution=_resolution(cases))
        # A rule's variable may not be set now; the comparison shows whether that matters.
        rules = tuple(
            msgspec.structs.replace(rule, env=tuple(name for name in rule.env if name in environ))
            for rule in prepared.rules
        )
        by_rules = {name: environ[name] for rule in rules for name in rule.env}
        routes = frozenset(chain.from_iterable(case.replay.routes for case in cases))
        access = access_offline(usual | named, routes or ANY_ROUTE)
        offline = msgspec.structs.replace(
            prepared,
            environment=access.inside,
            hidden={},
            routes=access.routes,
            rules=rules,
            warnings=(),
            offline=True,
        )
        return offline, msgspec.structs.replace(host, environ=by_rules | usual | named)

    def _options(self) -> RunOptions:
        before, group = self._before, self._group
        options = RunOptions(
            model=group.model,
            eval_set=self._layout.eval_set,
            passed_through=group.arguments,
            registry_paths=self._given.registry_paths if group.folders else (),
            code=self._given.code,
            requirements=self._given.requirements,
            jobs=self._given.jobs,
            image=before.image,
            gpus=before.gpus,
            network="none",
            run_command=group.program,
            exit_on_error=False,
            max_failures=0,
            probe=False,  # they have run before, and their answers are on record
            progress_dir=self._root,
            explicit=frozenset({"network"}),
        )
        known = options.settings.__struct_fields__
        limits = {
            name: value
            for name, value in before.limits.items()
            if name in known and value is not None
        }
        return msgspec.structs.replace(options, **limits)

    def _differences(
        self, cases: Sequence[Case], prepared: Prepared, plan: Plan, *, run_id: str
    ) -> dict[str, str]:
        """Why evals cannot be run under the conditions of the record, by their keys."""
        before = self._before
        now = pin(prepared, plan, run_id, None).file
        first = Command(before.commands[0]).without_eval if before.commands else ()
        jobs = {job.eval: job for job in plan.jobs}
        found = {}
        for case in cases:
            job = jobs[case.eval]
            why = [
                *differences(
                    before,
                    now,
                    finished={job.argv.key: job.eval},
                    same_arguments=case.command.without_eval == first,
                    ignored={"network"},  # the rerun has none
                )
            ]
            if job.argv.key in (before.data or {}) and job.eval not in prepared.data:
                why.append("the data that it was run with are not here; `evalset data fetch` them")
            if job.argv.key not in before.digests:
                why.append("run.json does not say with which registry content it was run")
            if not why:
                why = self._other_image(case, job.settings, prepared)
            if why:
                found[case.eval] = "; ".join(why)
        return found

    def _other_image(
        self, case: Case, settings: ContainerSettings, prepared: Prepared
    ) -> list[str]:
        """Why an eval's image is not the one that it was run in.

        The default one has been compared with run.json, and may have another id on another host;
        so have the packages that were added to another.
        """
        name = settings.image
        image = look_up_image(prepared.engine.api, name)
        if image is None:
            return [f"the image {name} is not here"]
        known = name == self._before.image or settings.requirements is not None
        if known or case.attempt.image in {"", image.id}:
            return []
        return [f"it was run in the image {case.attempt.image}, and {name} is {image.id}"]

    def _compared(self, case: Case, again: Attempt, layout: Layout, answers: Path) -> Verified:
        sameness = Sameness()
        if again.result is Result.SUCCESS:
            reports = case.attempt.final_report, again.final_report
            logs = self._layout.log_paths(case.attempt.logs), layout.log_paths(again.logs)
            sameness = compare_values(*reports, "final report")
            sameness += compare_logs(*logs, reports=reports)
        console = layout.log_paths([again.console_log] if again.console_log else [])
        return decide(
            case,
            again,
            read_unmatched(answers, again.id, case.replay),
            sameness,
            last="".join(last_lines(console[0], 1)) if console else "",
            offline=self._before.network == "none",
        )


def _resolution(cases: Sequence[Case]) -> Resolution:
    """These evals, whether the registry has them or not."""
    evals = tuple(case.eval for case in cases)
    return Resolution(evals=evals, names={name: (name,) for name in evals})


def _plan(prepared: Prepared) -> Plan:
    layout = prepared.layout
    return planned(prepared, RunState(model=layout.model, eval_set=layout.eval_set))
