"""Progress and attempts files, through any sequence of writes, crashes and edits by others."""

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.model import Attempt, Command, Result
from runner.records.progress import (
    AttemptsFile,
    LineFile,
    ProgressFile,
    read_attempts,
    read_progress,
)
from tests.amount import amount

# Between two texts that lost the end of line between them.
GLUED = re.compile(rb"(?<=\])(?=\[)|(?<=\})(?=\{)")

words = st.text(st.characters(codec="utf-8"), max_size=6)
cuts = st.integers(0, 10**6)


class Lines(RuleBasedStateMachine):
    """A file of lines, and a model of it: its whole lines, and the torn rest."""

    items: st.SearchStrategy[Any]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "below" / "file"
        self.file: LineFile | None = None
        self.lines: list[bytes] = []
        self.tail = b""
        self.torn: list[bytes] = []

    def teardown(self) -> None:
        """Leave nothing."""
        if self.file is not None:
            self.file.close()
        shutil.rmtree(self.folder)

    def opened(self) -> LineFile:
        """Open the file as a run does."""
        raise NotImplementedError

    def append(self, items: Sequence[Any]) -> None:
        """Add items as a run does."""
        raise NotImplementedError

    def encoded(self, item: Any) -> bytes:  # noqa: ANN401 - a command or a record
        """The line of an item, as another writer puts it."""
        raise NotImplementedError

    def found(self) -> tuple[list[str], int]:
        """What the product reads, as JSON, and how many lines it calls damaged."""
        raise NotImplementedError

    def expected(self, texts: Sequence[bytes]) -> list[str]:
        """What of these texts is to be found, as JSON."""
        raise NotImplementedError

    @precondition(lambda self: self.file is None)
    @rule()
    def open(self) -> None:
        """A run begins: a torn rest is put aside, a whole one gets its newline."""
        self.file = self.opened()
        if self.tail and texts_in(self.tail)[0]:
            self.lines.append(self.tail)
        elif self.tail:
            self.torn.append(self.tail)
        self.tail = b""

    @precondition(lambda self: self.file is not None)
    @rule(data=st.data())
    def add(self, data: st.DataObject) -> None:
        """Something ends, and is on record."""
        items = data.draw(st.lists(self.items, max_size=3))
        self.append(items)
        self.lines += map(self.encoded, items)

    @rule(data=st.data(), cut=cuts)
    def crash_while_adding(self, data: st.DataObject, cut: int) -> None:
        """The process dies in the middle of a write."""
        self.close()
        line = self.encoded(data.draw(self.items)) + b"\n"
        self.write(line[: cut % (len(line) + 1)])

    @rule(cut=cuts)
    def truncate(self, cut: int) -> None:
        """A power loss or a person takes away the end, at any byte."""
        self.close()
        content = self.content()[: cut % (len(self.content()) + 1)]
        *whole, self.tail = content.split(b"\n")
        self.lines = self.lines[: len(whole)]
        if self.path.exists():
            self.path.write_bytes(content)

    @rule(data=st.data())
    def another_writes(self, data: st.DataObject) -> None:
        """Upstream or a person appends a line, and does not look at what is before it."""
        self.close()
        self.write(self.encoded(data.draw(self.items)) + b"\n")

    @precondition(lambda self: self.lines)
    @rule(which=cuts)
    def double(self, which: int) -> None:
        """A line is there twice."""
        self.close()
        self.write(self.lines[which % len(self.lines)] + b"\n")

    @rule()
    def end(self) -> None:
        """The run ends well."""
        self.close()

    @invariant()
    def everything_is_known(self) -> None:
        """Each whole line counts, once; each that cannot be read is named; nothing is changed."""
        assert (self.path.read_bytes() if self.path.exists() else b"") == self.content()
        texts = [text for line in (*self.lines, self.tail) for text in texts_in(line)[0]]
        damaged = sum(not texts_in(line)[1] for line in self.lines)
        assert self.found() == (self.expected(texts), damaged)
        aside = self.path.with_name(f"{self.path.name}.torn")
        pieces = aside.read_bytes() if aside.exists() else b""
        assert pieces.count(b"\n") == len(self.torn)

    def content(self) -> bytes:
        """What the file must hold, byte for byte."""
        return b"".join(line + b"\n" for line in self.lines) + self.tail

    def write(self, data: bytes) -> None:
        """Append bytes as anybody may."""
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("ab") as file:
            file.write(data)
        *whole, self.tail = (self.tail + data).split(b"\n")
        self.lines += whole

    def close(self) -> None:
        """Let go of the file."""
        if self.file is not None:
            self.file.close()
            self.file = None


class Progress(Lines):
    """A progress file."""

    items = st.tuples(st.just("oaieval"), words, words).map(Command)

    def opened(self) -> LineFile:
        """Open the file as a run does."""
        return ProgressFile(self.path)

    def append(self, items: Sequence[Command]) -> None:
        """Add commands."""
        assert isinstance(self.file, ProgressFile)
        self.file.add_commands(*items)

    def encoded(self, item: Command) -> bytes:
        """The line that upstream writes."""
        return json.dumps(list(item)).encode()

    def found(self) -> tuple[list[str], int]:
        """The commands."""
        finished = read_progress(self.path)
        assert finished.lines == ()
        return [json.dumps(command) for command in finished.commands], len(finished.damaged)

    def expected(self, texts: Sequence[bytes]) -> list[str]:
        """Each command once."""
        return list(dict.fromkeys(json.dumps(json.loads(text)) for text in texts))


class AttemptsOfRuns(Lines):
    """An attempts file."""

    items = st.builds(
        Attempt,
        id=words,
        run=words,
        host=words,
        command=st.tuples(words, words, words).map(Command),
        eval=words,
        result=st.sampled_from(Result),
        ended_at=words,
    )

    def opened(self) -> LineFile:
        """Open the file as a run does."""
        return AttemptsFile(self.path)

    def append(self, items: Sequence[Attempt]) -> None:
        """Add records."""
        assert isinstance(self.file, AttemptsFile)
        self.file.add_records(*items)

    def encoded(self, item: Attempt) -> bytes:
        """The line that evalset writes."""
        return msgspec.json.encode(item)

    def found(self) -> tuple[list[str], int]:
        """The records."""
        read = read_attempts(self.path)
        return [msgspec.json.encode(each).decode() for each in read.records], len(read.damaged)

    def expected(self, texts: Sequence[bytes]) -> list[str]:
        """Each record once in a row of those of its attempt."""
        last: dict[str, str] = {}
        found = []
        for text in texts:
            attempt = json.loads(text)["attempt"]
            if last.get(attempt) != text.decode():
                last[attempt] = text.decode()
                found.append(text.decode())
        return found


def texts_in(line: bytes) -> tuple[list[bytes], bool]:
    """The whole JSON texts in a line, and whether there is nothing else in it."""
    if not line:
        return [], True
    pieces = [line] if is_json(line) else GLUED.split(line)
    whole = [piece for piece in pieces if is_json(piece)]
    return whole, len(whole) == len(pieces)


def is_json(text: bytes) -> bool:
    """Whether it is a whole one."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


AMOUNT = settings(max_examples=amount(30, 2000), stateful_step_count=amount(20, 60), deadline=None)
TestProgress = Progress.TestCase
TestProgress.settings = AMOUNT
TestAttempts = AttemptsOfRuns.TestCase
TestAttempts.settings = AMOUNT
