import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import assert_never

import msgspec

from runner.files import named, read_bytes
from runner.model import Attempt, Command, Result, State
from runner.plan.pins import RunFile
from runner.plan.plan import Past, Success
from runner.records.layout import Layout
from runner.records.progress import Finished, RecordedAttempts, parse_attempts, parse_progress
from runner.records.run_file import parse_run_file, run_file_problem
from runner.records.snapshot import ExcludedFile, FileKind, kind_of

_ENDINGS = (".progress.txt", ".attempts.jsonl", ".run.json", ".left-out.jsonl")


class EvalState(msgspec.Struct, frozen=True, kw_only=True):
    """Where one eval stands: a row of every table.

    Attributes:
        eval: the resolved key.
        reason: why it failed, or why the newest run skipped it; empty otherwise.
        final_report: of the newest attempt.
        samples: in its logs.
        duration: of the newest attempt, in seconds; None when there was none, or it is not known.
        attempts: how many ended.
        console_log: of the newest attempt, relative to the progress directory.
        host: that the newest attempt ran on, or that the eval runs on; empty where it runs on this
            one and its run has no others.
        arguments: of its command, where the eval is in the table with others, too.
    """

    eval: str
    state: State
    reason: str = ""
    final_report: dict[str, object] | None = None
    samples: int = 0
    duration: float | None = None
    attempts: int = 0
    console_log: str | None = None
    host: str = ""
    arguments: str = ""


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """Where the runs of one model and eval set stand, from a progress directory or a branch.

    Attributes:
        run: what the newest run is pinned to; None if there is none that can be read.
        attempts: every attempt that ended, in file order.
        files_left_out: those that stayed on their host; a branch alone knows of them.
        damaged: a message for each line or file that cannot be read.
    """

    model: str
    eval_set: str
    run: RunFile | None = None
    finished: Finished = Finished()
    attempts: tuple[Attempt, ...] = ()
    files_left_out: tuple[ExcludedFile, ...] = ()
    damaged: tuple[str, ...] = ()

    @staticmethod
    def from_directory(layout: Layout, reader: "StateReader | None" = None) -> "RunState":
        """Read the files of a progress directory; those that do not exist say nothing.

        A reader that has read them before reads what has changed, and parses what was added; where
        nothing is new, it gives the same object.

        Raises:
            EnvironmentFault: one of them cannot be read.
        """
        return (reader or StateReader()).of_directory(layout)

    @staticmethod
    def from_branch(
        contents: Mapping[str, bytes], *, source: str, reader: "StateReader | None" = None
    ) -> "list[RunState]":
        """Read the state files of a progress branch, for each model and eval set that it has.

        Args:
            contents: by path.
            source: what messages call the place that they are from.
            reader: where nothing is new since it read last, it gives the same object.
        """
        reader = reader or StateReader()
        starts = {
            path.removesuffix(ending)
            for path in contents
            for ending in _ENDINGS
            if path.endswith(ending) and kind_of(path) is not FileKind.WHOLE
        }
        return [reader.of_branch(start, contents, source) for start in sorted(starts)]

    @property
    def commands(self) -> list[Command]:
        """Commands of the newest plan, then finished and attempted ones that it does not have."""
        planned = self.run.commands if self.run else ()
        known: dict[Command, None] = dict.fromkeys(map(Command, planned))
        known |= dict.fromkeys(self.finished.commands)
        known |= dict.fromkeys(Command(line.split(" ")) for line in self.finished.lines)
        known |= dict.fromkeys(attempt.command for attempt in self.attempts)
        return list(known)

    @property
    def logs(self) -> tuple[str, ...]:
        """Every log on record, each once; some may not be here."""
        return tuple(dict.fromkeys(name for one in self.attempts for name in one.all_logs))

    @property
    def planned(self) -> int | None:
        """How many evals the newest plan has, those of other shards too; None without one."""
        return len(self.run.commands) if self.run else None

    @property
    def in_eval_set(self) -> int | None:
        """How many evals the whole set had then; None where no file tells."""
        return self.run.in_eval_set if self.run else None

    def evals(
        self,
        commands: Sequence[Command] | None = None,
        *,
        running: Mapping[Command, str] = {},
        states: "EvalStates | None" = None,
    ) -> list[EvalState]:
        """The state of each command, in order; without `commands` of all that are known.

        Args:
            running: commands that run now, and on which host; a file does not tell.
            states: keeps those of an earlier look that have not changed.
        """
        commands = self.commands if commands is None else commands
        found = (states or EvalStates()).of(self, commands)
        times = Counter(one.eval for one in found)
        unable = self._unable
        for index, (command, one) in enumerate(zip(commands, found, strict=True)):
            if command in running and one.state is not State.DONE:
                one = msgspec.structs.replace(  # noqa: PLW2901 - the same eval
                    one, state=State.RUNNING, reason="", duration=None, host=running[command]
                )
            if times[one.eval] > 1:
                one = msgspec.structs.replace(one, arguments=in_words(command.arguments))  # noqa: PLW2901 - as above
            if one.state is State.TO_DO and command in unable:
                why = f"skipped: {unable[command]}"
                one = msgspec.structs.replace(one, reason=why)  # noqa: PLW2901 - as above
            found[index] = one
        return found

    @property
    def _unable(self) -> dict[Command, str]:
        """Why the newest run skipped commands."""
        if self.run is None or not self.run.unable:
            return {}
        commands = map(Command, self.run.commands)
        return {
            each: self.run.unable[each.eval] for each in commands if each.eval in self.run.unable
        }

    def past(self) -> dict[Command, Past]:
        """What is on record of the attempts of each command."""
        past: dict[Command, Past] = {}
        for attempt in self.attempts:
            before = past.get(attempt.command, Past())
            past[attempt.command] = _with(before, attempt)
        return past

    def done(self) -> list[Command | str]:
        """Finished commands; for the older format their text.

        Where the progress file has lines that nobody can read, successes on record count as well.
        """
        found: list[Command | str] = [*self.finished.commands, *self.finished.lines]
        if self.finished.damaged:
            found += [one.command for one in self.attempts if one.result is Result.SUCCESS]
        return found


def in_words(arguments: Sequence[str]) -> str:
    """The arguments of a command, for people."""
    return shlex.join(arguments) or "without arguments"


def _with(past: Past, attempt: Attempt) -> Past:
    ended = past.ended + 1
    match attempt.result:
        case Result.SUCCESS:
            success = Success(
                attempt=attempt.id, number=ended, host=attempt.host, ended_at=attempt.ended_at
            )
            return msgspec.structs.replace(past, ended=ended, success=success)
        case Result.FAILURE:
            failed = past.failed + 1
            return msgspec.structs.replace(past, ended=ended, failed=failed, last=attempt.reason)
        case Result.LOST:
            lost = past.lost + 1
            return msgspec.structs.replace(past, ended=ended, lost=lost, last=attempt.reason)
        case _:
            assert_never(attempt.result)


class StateReader:
    """Reads states again and again; of a file that was only added to, it parses what is new.

    A file whose inode, size and times are what they were is not opened again.
    """

    def __init__(self) -> None:
        self._files: dict[Path, tuple[tuple[int, ...], bytes]] = {}
        self._attempts: dict[str, tuple[bytes, RecordedAttempts]] = {}
        self._finished: dict[str, tuple[bytes, Finished]] = {}
        self._of_branch: dict[tuple[str, str], tuple[dict[str, bytes], RunState]] = {}
        self._of_directory: dict[Layout, tuple[list[bytes | None], RunState]] = {}

    def content(self, path: Path) -> bytes | None:
        """What a file holds; None where there is none.

        Raises:
            EnvironmentFault: it cannot be read.
        """
        with named(path, "read"):
            try:
                about = path.stat()  # before it is read: what comes in between is seen next time
            except FileNotFoundError:
                return None
        status = (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        before = self._files.get(path)
        if before is None or before[0] != status:
            before = self._files[path] = (status, read_bytes(path))
        return before[1]

    def of_directory(self, layout: Layout) -> RunState:
        """The state of the files in a progress directory; the same if nothing is new."""
        content = [self.content(path) for path in (layout.progress, layout.attempts, layout.run)]
        before = self._of_directory.get(layout)
        if before is not None and before[0] == content:
            return before[1]
        finished = self._read_finished(content[0] or b"", str(layout.progress))
        past = self._read_attempts(content[1] or b"", str(layout.attempts))
        run = parse_run_file(content[2] or b"")
        problem = run_file_problem(layout.run, content[2], run)
        state = RunState(
            model=layout.model,
            eval_set=layout.eval_set,
            run=run,
            finished=finished,
            attempts=past.records,
            damaged=tuple(filter(None, (*finished.damaged, *past.damaged, problem))),
        )
        self._of_directory[layout] = (content, state)
        return state

    def _read_attempts(self, content: bytes, source: str) -> RecordedAttempts:
        before, known = self._attempts.get(source, (b"", RecordedAttempts()))
        if known.damaged or not _is_continued(before, content):
            before, known = b"", RecordedAttempts()
        new = parse_attempts(content[len(before) :], source)
        found = RecordedAttempts(records=(*known.records, *new.records), damaged=new.damaged)
        self._attempts[source] = (content, found)
        return found

    def _read_finished(self, content: bytes, source: str) -> Finished:
        before, known = self._finished.get(source, (b"", Finished()))
        if known.damaged or not _is_continued(before, content):
            before, known = b"", Finished()
        new = parse_progress(content[len(before) :], source)
        found = Finished(
            commands=tuple(dict.fromkeys([*known.commands, *new.commands])),
            lines=tuple(dict.fromkeys([*known.lines, *new.lines])),
            damaged=new.damaged,
        )
        self._finished[source] = (content, found)
        return found

    def of_branch(self, start: str, contents: Mapping[str, bytes], source: str) -> RunState:
        """The state of the files whose paths begin with `start`; the same if nothing is new."""
        content = {ending: contents.get(start + ending, b"") for ending in _ENDINGS}
        before = self._of_branch.get((source, start))
        if before is not None and before[0] == content:
            return before[1]
        run = parse_run_file(content[".run.json"])
        model, _, eval_set = start.removeprefix("oaievalset/").rpartition(".")
        finished = self._read_finished(content[".progress.txt"], f"{source}:{start}.progress.txt")
        past = self._read_attempts(content[".attempts.jsonl"], f"{source}:{start}.attempts.jsonl")
        state = RunState(
            model=run.model if run else model,
            eval_set=run.eval_set if run else eval_set,
            run=run,
            finished=finished,
            attempts=past.records,
            files_left_out=tuple(ExcludedFile.read(content[".left-out.jsonl"])),
            damaged=(*finished.damaged, *past.damaged),
        )
        self._of_branch[source, start] = (content, state)
        return state


def _is_continued(before: bytes, content: bytes) -> bool:
    return before.endswith(b"\n") and content.startswith(before)


class EvalStates:
    """Makes the states of one run's evals again and again; one with nothing new stays."""

    def __init__(self) -> None:
        self._finished = Finished()
        self._attempts: Sequence[Attempt] = ()
        self._done: set[Command] = set()
        self._by_command: dict[Command, list[Attempt]] = {}
        self._states: dict[Command, EvalState] = {}

    def of(self, run: RunState, commands: Sequence[Command]) -> list[EvalState]:
        """The states of commands, in their order."""
        self._take_in(run.finished, run.attempts)
        plain = set(run.finished.lines)
        for command in commands:
            if command not in self._states:
                done = command in self._done or (bool(plain) and " ".join(command) in plain)
                attempts = self._by_command.get(command, [])
                self._states[command] = _state_of(command, attempts, done=done)
        return [self._states[command] for command in commands]

    def _take_in(self, finished: Finished, attempts: Sequence[Attempt]) -> None:
        """Forget the states of commands of which there is something new, or all."""
        before = len(self._finished.commands)
        if (
            finished.lines != self._finished.lines
            or finished.commands[:before] != self._finished.commands
            or tuple(attempts[: len(self._attempts)]) != tuple(self._attempts)
        ):
            before, self._attempts = 0, ()
            self._done.clear()
            self._by_command.clear()
            self._states.clear()
        new = attempts[len(self._attempts) :]
        self._done.update(finished.commands[before:])
        for attempt in new:
            self._by_command.setdefault(attempt.command, []).append(attempt)
        for command in (*finished.commands[before:], *(attempt.command for attempt in new)):
            self._states.pop(command, None)
        self._finished, self._attempts = finished, attempts


def _is_lost_unseen(attempt: Attempt) -> bool:
    """Whether nothing is known of a container, such as one that was lost with its host."""
    return attempt.result is Result.LOST and attempt.started_at is None


def _state_of(command: Command, attempts: Sequence[Attempt], *, done: bool) -> EvalState:
    successes = [attempt for attempt in attempts if attempt.result is Result.SUCCESS]
    if done and not successes:
        return EvalState(eval=command.eval, state=State.DONE, attempts=len(attempts))
    if not attempts:
        return EvalState(eval=command.eval, state=State.TO_DO)
    newest = successes[-1] if done else attempts[-1]
    state = State.DONE if done else newest.result.state
    if newest.result is Result.SUCCESS and not done:
        state = State.TO_DO  # its line was taken out of the progress file: a fresh start
    return EvalState(
        eval=newest.eval,
        state=state,
        reason="" if done else newest.reason,
        final_report=newest.final_report,
        samples=newest.samples,
        duration=None if _is_lost_unseen(newest) else newest.duration,
        attempts=len(attempts),
        console_log=newest.console_log,
        host=newest.host,
    )
