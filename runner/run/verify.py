from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from runner.engine.engine import Engine
from runner.engine.leftovers import discard_all
from runner.errors import UsageError
from runner.gateway.client import remove_abandoned
from runner.host import KEYLESS_MODEL, Host
from runner.model import Attempt, Command, Result, State, check_name
from runner.plan.plan import select_evals
from runner.records.folders import temporary_folder
from runner.records.layout import Layout
from runner.records.replay import read_replay
from runner.records.state import RunState, in_words
from runner.report.display import Display
from runner.report.text import evals
from runner.run.rerun import Rerun, RerunGroup, RerunOptions
from runner.run.verify_verdict import Case, Verdict, Verified

# The name of the folder with the files of reruns.
FOLDER = "verify"

NO_ANSWERS = "it has no answers on record"


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found.

    Attributes:
        verified: the verdicts, in the order of the record.
        unfinished: how many evals of the newest plan are not finished, and so skipped.
        interrupted: exit code of a rerun that was interrupted, else 0.
    """

    verified: tuple[Verified, ...]
    unfinished: int
    interrupted: int


def verify(
    layout: Layout,
    given: RerunOptions,
    host: Host,
    display: Display,
    *,
    select: Sequence[str] = (),
    no_answers: str = NO_ANSWERS,
    new_id: Callable[[], str],
    began: float,
) -> Verification:
    """Run finished evals again, offline, and compare what they say with the record.

    Args:
        layout: of the record, which is only read.
        display: shows the reruns.
        select: patterns of evals; none is all.
        no_answers: is said of an eval without answers.
        new_id: makes ids of runs and attempts.
        began: when, by `time.monotonic`.

    Raises:
        UsageError: no eval is finished, or none that `select` names.
        EnvironmentFault: the engine does not do its part.
    """
    state = RunState.from_directory(layout)
    commands = _finished(layout, state, select)
    found = {command: _case(layout, state, command, no_answers) for command in commands}
    groups: dict[RerunGroup, list[Case]] = {}
    for case in found.values():
        if isinstance(case, Case):
            groups.setdefault(RerunGroup.of(case.command), []).append(case)
    known = {command: one for command, one in found.items() if isinstance(one, Verified)}
    code = 0
    with temporary_folder(FOLDER, before_removal=lambda left: _end(left, host)) as folder:
        for number, (group, cases) in enumerate(groups.items()):
            if code or state.run is None:
                break
            if len(groups) > 1:
                display.note(f"{evals(len(cases))}, {in_words(group.arguments)}:")
            rerun = Rerun(
                layout, state.run, group, given=given, host=host, root=folder / str(number)
            )
            verified, code = rerun.of(cases, display, new_id=new_id, began=began)
            known |= {one.command: one for one in verified}
    for command, case in found.items():
        if command not in known and isinstance(case, Case):
            known[command] = case.verified(Verdict.CANNOT_TELL, "its rerun was interrupted")
    rows = state.evals()[: state.planned]
    return Verification(
        verified=tuple(known[command] for command in commands),
        unfinished=sum(row.state is not State.DONE for row in rows),
        interrupted=code,
    )


def _end(folder: Path, host: Host) -> None:
    """Remove the containers that a killed verification left."""
    for root in folder.resolve().iterdir():
        remove_abandoned(root)
        discard_all(Engine().api, root, host.name)


def _finished(layout: Layout, state: RunState, select: Sequence[str]) -> list[Command]:
    """The finished commands that `select` chooses.

    Raises:
        UsageError: there are none.
    """
    if not state.commands:
        raise layout.no_progress()
    done = set(state.done())
    finished = [each for each in state.commands if each in done or " ".join(each) in done]
    if not finished:
        raise UsageError(
            f"no eval of {layout.model} {layout.eval_set} is finished", "run `evalset run` first"
        )
    chosen, _ = select_evals([command.eval for command in finished], {}, select, ())
    return [command for command in finished if command.eval in chosen]


def _case(layout: Layout, state: RunState, command: Command, no_answers: str) -> Case | Verified:
    """A finished eval from its files, or why these do not suffice."""
    attempts = [
        each for each in state.attempts if each.command == command and each.result is Result.SUCCESS
    ]
    attempt = attempts[-1] if attempts else None
    why = _why_not(layout, state, command, attempt)
    if attempt is not None and not why:
        replay = read_replay(layout.answers_of(command), attempt.id)
        if replay.answers or _asks_nothing(attempt):
            return Case(command=command, attempt=attempt, replay=replay)
        why = no_answers
    return Verified(
        eval=command.eval,
        command=command,
        attempt=attempt.id if attempt else "",
        verdict=Verdict.CANNOT_TELL,
        reason=why,
    )


def _why_not(layout: Layout, state: RunState, command: Command, attempt: Attempt | None) -> str:
    """Why a finished eval cannot be run again; empty if it can."""
    if attempt is None:
        return "no attempt of it is on record"
    if state.run is None:
        return "no run.json says what it was run with"
    if command.model != layout.model:
        return f"its command has another model, {command.model}"
    try:
        check_name("eval", command.eval)  # it may be from a branch that somebody else wrote
    except UsageError as error:
        return error.what
    if len(layout.log_paths(attempt.logs)) < max(1, len(attempt.logs)):
        return "its log is not here"
    return ""


def _asks_nothing(attempt: Attempt) -> bool:
    """Whether an eval needs no answers."""
    if attempt.spending is None:
        return attempt.command.model == KEYLESS_MODEL
    return attempt.spending.requests == 0
