import json
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from runner.files import UNREADABLE, named, read_bytes, write_all
from runner.records.lines import LineFile

VERSION = 1


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens that a provider counted; `cached` are those of `input` that cost less."""

    input: int = 0
    output: int = 0
    cached: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            cached=self.cached + other.cached,
        )


class Reserved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request may cost at most; `usd` is None where no price is known."""

    tokens: int = 0
    usd: float | None = None


class _Line(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=str.lower, omit_defaults=True
):
    version: int = VERSION


class Request(_Line, frozen=True, kw_only=True):
    """What was asked, once for each key.

    Attributes:
        key: stands for the request, whoever asks, whenever and with whichever key.
        route: name of the provider.
        path: with its query, as the provider got it below its address.
        body: as JSON; null where there was none.
    """

    key: str
    route: str
    method: str
    path: str
    body: Any = None


class Sent(_Line, frozen=True, kw_only=True):
    """A request goes to the provider now; it is perhaps paid until another line has its id.

    Attributes:
        id: of this one sending.
        sample: that asked, where the eval said so.
        at: UTC, RFC 3339.
    """

    id: str
    key: str
    attempt: str
    sample: str = ""
    at: str = ""
    model: str = ""
    reserved: Reserved = Reserved()


class Answer(_Line, frozen=True, kw_only=True):
    """What the provider answered; durable before the eval gets the last of it.

    Attributes:
        attempt: to which it is given with that; empty where nobody waited for it any more.
        seconds: from sending to its end.
        headers: those that have a meaning for the eval.
        body: decoded, as text.
        usd: what it cost, where prices were known.
    """

    id: str
    key: str
    attempt: str = ""
    sample: str = ""
    at: str = ""
    seconds: float = 0.0
    status: int = 200
    headers: dict[str, str] = {}
    body: str = ""
    model: str = ""
    usage: Usage | None = None
    usd: float | None = None


class Given(_Line, frozen=True, kw_only=True):
    """An answer on record is given to an attempt.

    Attributes:
        at: UTC, RFC 3339; it tells two lines apart where files are merged.
    """

    id: str
    attempt: str
    at: str = ""


class Returned(_Line, frozen=True, kw_only=True):
    """An answer did not reach the attempt that it was given to, at this time, as above."""

    id: str
    attempt: str
    at: str = ""


class Failed(_Line, frozen=True, kw_only=True):
    """A request has no answer that is worth keeping.

    Attributes:
        status: of the provider's answer; 0 where there was none.
        billed: whether it was paid for; None where nobody knows.
        reason: one line for people.
    """

    id: str
    status: int = 0
    billed: bool | None = None
    reason: str = ""


AnswersLine = Request | Sent | Answer | Given | Returned | Failed


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Where an answer lies in its file, so that memory need not hold it.

    Attributes:
        start: of its line, in bytes.
        size: of its line, in bytes.
    """

    id: str
    key: str
    sample: str
    start: int
    size: int


class _Short(msgspec.Struct, kw_only=True, gc=False):
    """A line of any kind without what is large in it."""

    version: int = VERSION
    kind: str
    id: str = ""
    key: str = ""
    attempt: str = ""
    sample: str = ""
    model: str = ""
    seconds: float = 0.0
    at: str = ""
    status: int = 0
    usage: Usage | None = None
    usd: float | None = None
    billed: bool | None = None
    reserved: Reserved = Reserved()


_decode_short = msgspec.json.Decoder(_Short).decode


class Totals(msgspec.Struct, kw_only=True):
    """What an answers file adds up to.

    Attributes:
        requests: that were sent to a provider.
        answers: that came and are kept.
        replayed: answers on record that were given to an attempt once more.
        failed: requests without an answer worth keeping.
        perhaps_paid: requests of which nobody knows whether they were paid for.
        usage: tokens of the answers.
        usd: what they cost; None where no price was known.
        saved: what the replayed ones had cost, likewise.
        saved_tokens: and their tokens.
        reserved: what `perhaps_paid` may have cost at most.
        seconds: of the answers, added up.
    """

    requests: int = 0
    answers: int = 0
    replayed: int = 0
    failed: int = 0
    perhaps_paid: int = 0
    usage: Usage = Usage()
    usd: float | None = None
    saved: float | None = None
    saved_tokens: int = 0
    reserved: Reserved = Reserved()
    seconds: float = 0.0


class Answers(msgspec.Struct, kw_only=True):
    """What an answers file says, without the texts.

    Attributes:
        kept: the answers in file order.
        requests: keys of the requests that it describes.
        given: ids of the answers that an attempt was given, by attempt.
        damaged: a message for each line that cannot be read.
    """

    kept: list[Kept] = []
    requests: set[str] = set()
    given: dict[str, set[str]] = {}
    totals: Totals = msgspec.field(default_factory=Totals)
    damaged: list[str] = []


def read_answers(path: Path) -> Answers:
    """Read an answers file; reading tolerates what is damaged and never changes it.

    Raises:
        EnvironmentFault: it cannot be read.
    """
    return parse_answers(read_bytes(path), str(path))


def parse_answers(content: bytes, source: str) -> Answers:
    """Read what an answers file holds; `source` is what messages call it."""
    kept: dict[str, Kept] = {}
    given: defaultdict[str, set[str]] = defaultdict(set)
    requests: set[str] = set()
    adding = _Adding()
    keys: dict[str, str] = {}
    start = 0
    damaged = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        size = len(line)
        if line.strip():
            short = _short(line)
            if short is None:
                if start + size < len(content):  # a torn last line is none that is damaged
                    damaged.append(f"{source}: line {number} cannot be read and is left as it is")
            else:
                key = keys.setdefault(short.key, short.key)
                match short.kind:
                    case "request":
                        requests.add(key)
                    case "answer" if short.id not in kept:
                        kept[short.id] = Kept(
                            id=short.id, key=key, sample=short.sample, start=start, size=size
                        )
                        if short.attempt:
                            given[short.attempt].add(short.id)
                    case "given":
                        given[short.attempt].add(short.id)
                    case "returned":
                        given[short.attempt].discard(short.id)
                adding.take(short)
        start += size + 1
    return Answers(
        kept=list(kept.values()),
        requests=requests,
        given=dict(given),
        totals=adding.totals(),
        damaged=damaged,
    )


def _short(line: bytes) -> _Short | None:
    try:
        return _decode_short(line)
    except UNREADABLE:
        return None


class _Adding:
    """Adds up the lines of a file, each of which may be there twice."""

    def __init__(self) -> None:
        self._sent: dict[str, _Short] = {}
        self._answers: dict[str, _Short] = {}
        self._failed: dict[str, _Short] = {}
        self._replays: dict[tuple[str, str], str] = {}

    def take(self, line: _Short) -> None:
        """Take one line in."""
        match line.kind:
            case "sent":
                self._sent.setdefault(line.id, line)
            case "answer":
                self._answers.setdefault(line.id, line)
            case "failed":
                self._failed.setdefault(line.id, line)
            case "given":
                self._replays[line.id, line.attempt] = line.id
            case "returned":
                self._replays.pop((line.id, line.attempt), None)

    def totals(self) -> Totals:
        """What they add up to."""
        replayed = [self._answers[each] for each in self._replays.values() if each in self._answers]
        open_ = [
            line
            for each, line in self._sent.items()
            if each not in self._answers
            and (each not in self._failed or self._failed[each].billed is None)
        ]
        answers = self._answers.values()
        return Totals(
            requests=len(self._sent.keys() | self._answers.keys()),
            answers=len(answers),
            replayed=len(replayed),
            failed=len(self._failed),
            perhaps_paid=len(open_),
            usage=_usage(answers),
            usd=_usd([line.usd for line in answers]),
            saved=_usd([line.usd for line in replayed]),
            saved_tokens=(used := _usage(replayed)).input + used.output,
            reserved=Reserved(
                tokens=sum(line.reserved.tokens for line in open_),
                usd=_usd([line.reserved.usd for line in open_]),
            ),
            seconds=sum(line.seconds for line in answers),
        )


def _usage(lines: Iterable[_Short]) -> Usage:
    return sum((line.usage for line in lines if line.usage), start=Usage())


def _usd(amounts: Iterable[float | None]) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def _encoded(line: AnswersLine) -> bytes:
    try:
        return msgspec.json.encode(line)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can say all the same
        return json.dumps(msgspec.to_builtins(line), separators=(",", ":")).encode()


class AnswersFile(LineFile):
    """An answers file that is written to; `write` and `sync` are apart, so that many share one."""

    def write(self, line: AnswersLine) -> tuple[int, int]:
        """Append a line; on an error the file is as it was before.

        Returns:
            Where it starts, and its size, as `Kept` has them.

        Raises:
            EnvironmentFault: the disk is full, for example.
        """
        content = _encoded(line)
        with named(self.path, "write"):
            before = os.fstat(self._descriptor).st_size
            try:
                write_all(self._descriptor, content + b"\n")
            except OSError:
                os.ftruncate(self._descriptor, before)
                raise
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        return end - len(content) - 1, len(content)

    def sync(self) -> None:
        """Make durable what was written before."""
        with named(self.path, "write"):
            os.fdatasync(self._descriptor)

    def answer(self, kept: Kept) -> Answer:
        """Read an answer."""
        with named(self.path, "read"):
            line = os.pread(self._descriptor, kept.size, kept.start)
        return msgspec.json.decode(line, type=Answer)

    def is_in_place(self) -> bool:
        """Whether the file still has its name."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._descriptor))

    def read(self) -> Answers:
        """Read all of it, without the texts."""
        return read_answers(self.path)
