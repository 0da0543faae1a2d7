from collections.abc import Sequence

from runner.job import Result
from runner.record import attempts, progress
from runner.record.attempts import AttemptRecord
from runner.record.layout import Layout
from runner.report.summary import STATE_OF, Row


def rows(layout: Layout, commands: Sequence[tuple[str, ...]]) -> list[Row]:
    """A table's rows for commands, in their order, from what is on disk."""
    finished = progress.read(layout.progress)
    done = set(finished.commands)
    plain = set(finished.lines)
    by_command: dict[tuple[str, ...], list[AttemptRecord]] = {}
    for record in attempts.read(layout.attempts).records:
        by_command.setdefault(record.command, []).append(record)
    return [
        _row(
            command,
            by_command.get(command, []),
            done=command in done or " ".join(command) in plain,
        )
        for command in commands
    ]


def _row(command: tuple[str, ...], records: Sequence[AttemptRecord], *, done: bool) -> Row:
    name = command[2] if len(command) > 2 else " ".join(command)  # noqa: PLR2004 - program, model, eval
    successes = [record for record in records if record.result is Result.SUCCESS]
    if done and not successes:
        return Row(eval=name, state="done", attempts=len(records))
    if not records:
        return Row(eval=name, state="to do")
    newest = successes[-1] if done else records[-1]
    state = "done" if done else STATE_OF[newest.result]
    if newest.result is Result.SUCCESS and not done:
        state = "to do"  # its line was taken out of the progress file, which is a fresh start
    return Row(
        eval=newest.eval,
        state=state,
        reason="" if done else newest.reason,
        final_report=newest.final_report,
        samples=newest.samples,
        duration=newest.duration,
        attempts=len(records),
    )
