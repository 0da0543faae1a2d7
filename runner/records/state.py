from collections.abc import Mapping

import msgspec

from runner.plan.pins import RunFile
from runner.records.attempts import AttemptRecord, AttemptsRead, parse_attempts
from runner.records.merge import Kind, LeftOut, kind_of
from runner.records.progress import Finished, parse_progress
from runner.records.run_file import parse_run_file


def known_commands(
    run: RunFile | None, finished: Finished, records: tuple[AttemptRecord, ...]
) -> list[tuple[str, ...]]:
    """Commands of the last plan, then finished and attempted ones that it does not have."""
    return list(
        dict.fromkeys(
            [
                *(run.commands if run else ()),
                *finished.commands,
                *(tuple(line.split(" ")) for line in finished.lines),
                *(record.command for record in records),
            ]
        )
    )


_ENDINGS = (".progress.txt", ".attempts.jsonl", ".run.json", ".left-out.jsonl")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What a progress branch says of one model and eval set.

    Attributes:
        model: as given to `oaieval`.
        eval_set: name of the eval set.
        run: the newest run's file; None if there is none.
        finished: the progress file.
        records: the attempts.
        left_out: files that stayed on their host.
        damaged: a message for each line that cannot be read.
    """

    model: str
    eval_set: str
    run: RunFile | None
    finished: Finished
    records: tuple[AttemptRecord, ...]
    left_out: tuple[LeftOut, ...]
    damaged: tuple[str, ...]

    @property
    def commands(self) -> list[tuple[str, ...]]:
        """Commands of the newest plan, then finished and attempted ones that it does not have."""
        return known_commands(self.run, self.finished, self.records)


class Reader:
    """Reads the state files of a branch; what was only added to is not read again."""

    def __init__(self) -> None:
        self._attempts: dict[str, tuple[bytes, AttemptsRead]] = {}
        self._finished: dict[str, tuple[bytes, Finished]] = {}
        self._parts: dict[tuple[str, str], tuple[dict[str, bytes], Part]] = {}

    def attempts(self, content: bytes, source: str) -> AttemptsRead:
        """What an attempts file holds; `source` is what messages call it."""
        before, known = self._attempts.get(source, (b"", AttemptsRead()))
        if known.damaged or not content.startswith(before) or not before.endswith(b"\n"):
            before, known = b"", AttemptsRead()
        new = parse_attempts(content[len(before) :], source)
        found = AttemptsRead(records=(*known.records, *new.records), damaged=new.damaged)
        self._attempts[source] = (content, found)
        return found

    def finished(self, content: bytes, source: str) -> Finished:
        """What a progress file holds; `source` is what messages call it."""
        before, known = self._finished.get(source, (b"", Finished()))
        if known.damaged or not content.startswith(before) or not before.endswith(b"\n"):
            before, known = b"", Finished()
        new = parse_progress(content[len(before) :], source)
        found = Finished(
            commands=tuple(dict.fromkeys([*known.commands, *new.commands])),
            lines=tuple(dict.fromkeys([*known.lines, *new.lines])),
            damaged=new.damaged,
        )
        self._finished[source] = (content, found)
        return found

    def parts(self, contents: Mapping[str, bytes], *, source: str) -> list[Part]:
        """What state files say, for each model and eval set; the same object where nothing is new.

        Args:
            contents: by path.
            source: what messages call the place where they are from.
        """
        starts = sorted(
            {
                path.removesuffix(ending)
                for path in contents
                for ending in _ENDINGS
                if path.endswith(ending) and kind_of(path) is not Kind.WHOLE
            }
        )
        return [self._part(start, contents, source) for start in starts]

    def _part(self, start: str, contents: Mapping[str, bytes], source: str) -> Part:
        content = {ending: contents.get(start + ending, b"") for ending in _ENDINGS}
        before = self._parts.get((source, start))
        if before is not None and before[0] == content:
            return before[1]
        run = parse_run_file(content[".run.json"])
        model, _, eval_set = start.removeprefix("oaievalset/").rpartition(".")
        finished = self.finished(content[".progress.txt"], f"{source}:{start}.progress.txt")
        tried = self.attempts(content[".attempts.jsonl"], f"{source}:{start}.attempts.jsonl")
        part = Part(
            model=run.model if run else model,
            eval_set=run.eval_set if run else eval_set,
            run=run,
            finished=finished,
            records=tried.records,
            left_out=tuple(LeftOut.read(content[".left-out.jsonl"])),
            damaged=(*finished.damaged, *tried.damaged),
        )
        self._parts[source, start] = (content, part)
        return part
