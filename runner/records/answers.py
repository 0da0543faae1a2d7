import io
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from runner.files import UNREADABLE, named, write_behind
from runner.records.lines import BLANK, LineFile, written_by_newer

VERSION = 1

# Of HTTP: the usual status, and the first of those that say no.
OK = 200
FIRST_ERROR = 400

# Bytes that are read at once.
_AT_ONCE = 2**20


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Tokens that a provider counted; `cached` are those of `input` that cost less."""

    input: int = 0
    output: int = 0
    cached: int = 0

    @property
    def total(self) -> int:
        """In and out."""
        return self.input + self.output

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            cached=self.cached + other.cached,
        )


class Reserved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a request may cost at most; `usd` is None where no price is known."""

    tokens: int = 0
    usd: float | None = None


class _Line(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=str.lower, omit_defaults=True
):
    # A default would be left out, what a function gives is not.
    version: int = msgspec.field(default_factory=lambda: VERSION)


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
    status: int = OK
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


class Kept(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where an answer lies in its file, so that memory need not hold it.

    Attributes:
        status: of the provider's answer.
        start: of its line, in bytes.
        size: of its line, in bytes.
    """

    id: str
    key: str
    sample: str
    status: int
    start: int
    size: int


class Short(msgspec.Struct, kw_only=True, gc=False):
    """A line of any kind without what is large in it."""

    kind: str
    version: int = VERSION
    id: str = ""
    key: str = ""
    attempt: str = ""
    sample: str = ""
    model: str = ""
    seconds: float = 0.0
    at: str = ""
    status: int = OK
    usage: Usage | None = None
    usd: float | None = None
    billed: bool | None = None
    reserved: Reserved = Reserved()


_decode = msgspec.json.Decoder(Short).decode


class _Request(Request, frozen=True, kw_only=True, tag="request"):
    """The same, without its body taken apart: that may be much larger in memory than in a file."""

    body: msgspec.Raw = msgspec.Raw()


_decode_line: Callable[[str], AnswersLine] = msgspec.json.Decoder(
    _Request | Sent | Answer | Given | Returned | Failed
).decode

Visit = Callable[[Short], None]


def read_line(line: bytes) -> AnswersLine | None:
    """Read all of a line; None if it cannot be read. The body of a request stays JSON."""
    try:
        text = line.decode()
        _decode(text)
        return _decode_line(text)
    except UNREADABLE:
        return None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What answers files add up to; each of their `requests` is one of the next three.

    Attributes:
        requests: that were sent to a provider.
        answers: that came, were paid for, and are kept.
        failed: requests that cost nothing: without an answer, or answered by an error.
        perhaps_paid: requests of which nobody knows whether they were paid for; while a gateway
            works, those under way, too.
        replayed: answers on record that were given to an attempt once more.
        usage: tokens of the answers.
        usd: what they cost, as far as prices were known; None where none was.
        unpriced: tokens of answers whose price was not known.
        saved: what the replayed ones had cost, as `usd`.
        saved_tokens: and their tokens.
        reserved: what `perhaps_paid` may have cost at most.
        seconds: from sending to the end of each answer, added up.
    """

    requests: int = 0
    answers: int = 0
    failed: int = 0
    perhaps_paid: int = 0
    replayed: int = 0
    usage: Usage = Usage()
    usd: float | None = None
    unpriced: int = 0
    saved: float | None = None
    saved_tokens: int = 0
    reserved: Reserved = Reserved()
    seconds: float = 0.0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            requests=self.requests + other.requests,
            answers=self.answers + other.answers,
            failed=self.failed + other.failed,
            perhaps_paid=self.perhaps_paid + other.perhaps_paid,
            replayed=self.replayed + other.replayed,
            usage=self.usage + other.usage,
            usd=plus(self.usd, other.usd),
            unpriced=self.unpriced + other.unpriced,
            saved=plus(self.saved, other.saved),
            saved_tokens=self.saved_tokens + other.saved_tokens,
            reserved=Reserved(
                tokens=self.reserved.tokens + other.reserved.tokens,
                usd=plus(self.reserved.usd, other.reserved.usd),
            ),
            seconds=self.seconds + other.seconds,
        )


def plus(one: float | None, other: float | None) -> float | None:
    """The sum of what is known of two amounts."""
    if one is None or other is None:
        return one if other is None else other
    return one + other


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """What an answers file adds up to.

    Attributes:
        spent: tokens of the answers, by model.
        unpriced: those of them of which no price was known.
        perhaps: model, and what was reserved, of each request that is perhaps paid, and of each
            answer that does not say what it took.
        recent: when, model, and tokens that were reserved, of each request sent from a moment on.
        damaged: a message for each line that cannot be read.
    """

    totals: Totals = Totals()
    spent: dict[str, Usage] = {}
    unpriced: dict[str, Usage] = {}
    perhaps: list[tuple[str, Reserved]] = []
    recent: list[tuple[str, str, int]] = []
    damaged: list[str] = []


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """Which answers a file has, and who was given them; `Sums` has what they add up to.

    Attributes:
        kept: the answers in file order.
        requests: keys of the requests that it describes.
        given: ids of the answers that an attempt was given, by attempt.
        damaged: as `Sums` has it.
    """

    kept: list[Kept] = []
    requests: set[str] = set()
    given: dict[str, set[str]] = {}
    damaged: list[str] = []


def read_answers(path: Path) -> Answers:
    """Read an answers file; reading tolerates what is damaged and never changes it.

    Raises:
        EnvironmentFault: it cannot be read.
    """
    with _opened(path) as file:
        return _index(file, str(path))


def parse_answers(content: bytes, source: str) -> Answers:
    """Read what an answers file holds; `source` is what messages call it."""
    return _index(io.BytesIO(content), source)


def parse_sums(content: bytes, source: str) -> Sums:
    """Add up what an answers file holds; `source` is what messages call it."""
    return _added(io.BytesIO(content), source)


def read_sums(path: Path, visit: Visit | None = None, *, since: str | None = None) -> Sums:
    """Read what an answers file adds up to; what is damaged is tolerated as by `read_answers`.

    Args:
        visit: is shown each answer that was paid for, once.
        since: from when on requests are `recent`, as lines have it; None is never.

    Raises:
        EnvironmentFault: it cannot be read.
    """
    with _opened(path) as file:
        return _added(file, str(path), visit, since)


def _added(
    file: BinaryIO, source: str, visit: Visit | None = None, since: str | None = None
) -> Sums:
    lines = _Lines(file, source)
    adding = _Adding(since)
    for _, _, line in lines:
        if adding.take(line) and visit and line.status < FIRST_ERROR:
            visit(line)
    return Sums(**adding.sums(), damaged=lines.damaged())


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read from; one that is not there is empty."""
    with named(path, "read"):
        try:
            file: BinaryIO = path.open("rb", buffering=_AT_ONCE)
        except FileNotFoundError:
            file = io.BytesIO()
        with file:
            yield file


def _index(file: BinaryIO, source: str) -> Answers:
    lines = _Lines(file, source)
    kept: dict[str, Kept] = {}
    requests: dict[str, str] = {}
    given: defaultdict[str, set[str]] = defaultdict(set)
    for start, size, line in lines:
        kind, name = line.kind, line.id
        if kind == "request":
            requests[line.key] = line.key
        elif kind == "answer" and name not in kept:
            kept[name] = Kept(
                id=name,
                key=requests.get(line.key, line.key),  # one text for both
                sample=line.sample,
                status=line.status,
                start=start,
                size=size,
            )
            if line.attempt:
                given[line.attempt].add(name)
        elif kind == "given":
            given[line.attempt].add(name)
        elif kind == "returned":
            given[line.attempt].discard(name)
    return Answers(
        kept=list(kept.values()),
        requests=set(requests),
        given=dict(given),
        damaged=lines.damaged(),
    )


class _Lines:
    """The lines of a file that can be read, each with where it starts and its size."""

    def __init__(self, file: BinaryIO, source: str) -> None:
        self._file = file
        self._source = source
        self._damaged: list[int] = []
        self._newer: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int, Short]]:
        end = 0
        for number, line in enumerate(self._file, start=1):
            start, end = end, end + len(line)
            try:
                short = _decode(line)
            except UNREADABLE:
                text = line.strip(BLANK)  # a power loss leaves zero bytes around some
                found = _short(text)
                if found is None:
                    if text and line.endswith(b"\n"):  # a torn last line is none that is damaged
                        self._damaged.append(number)
                    continue
                start, line, short = start + line.index(text), text, found  # noqa: PLW2901 - its text
            if short.version > VERSION:
                self._newer.append(number)
            yield start, len(line) - line.endswith(b"\n"), short

    def damaged(self) -> list[str]:
        """A message for each line that cannot be read, or not all of it."""
        found = [
            f"{self._source}: line {number} cannot be read and is left as it is"
            for number in self._damaged
        ]
        return [*found, *written_by_newer(self._source, self._newer)]


def _short(line: bytes) -> Short | None:
    try:
        return _decode(line)
    except UNREADABLE:
        return None


class _Cost(msgspec.Struct, frozen=True, gc=False):
    """What one answer cost."""

    tokens: int
    usd: float | None


class _Adding:
    """Adds up the lines of a file, each of which may be there twice, in whatever order."""

    def __init__(self, since: str | None) -> None:
        self._since = since
        self._recent: list[tuple[str, str, int]] = []
        self._unmeasured: list[tuple[str, Reserved]] = []
        # By id: what it cost, None for nothing; the line itself while nobody knows.
        self._found: dict[str, _Cost | Short | None] = {}
        self._replays: set[tuple[str, str]] = set()
        # By model: tokens in, out and cached.
        self._tokens: dict[str, list[int]] = {}
        self._without_price: dict[str, Usage] = {}
        self._usd: float | None = None
        self._unpriced = 0
        self._seconds = 0.0

    def take(self, line: Short) -> bool:
        """Take one line in; tell whether it is an answer that was not there before."""
        kind = line.kind
        if kind == "answer":
            return self._answer(line)
        if kind == "sent":
            self._found.setdefault(line.id, line)
            if self._since is not None and line.at >= self._since:
                self._recent.append((line.at, line.model, line.reserved.tokens))
        elif kind == "given":
            self._replays.add((line.id, line.attempt))
        elif kind == "returned":
            self._replays.discard((line.id, line.attempt))
        elif kind == "failed":
            before = self._found.setdefault(line.id, line)
            if line.billed is False and isinstance(before, Short):
                self._found[line.id] = None
        return False

    def _answer(self, line: Short) -> bool:
        sent = self._found.get(line.id, line)
        if not isinstance(sent, Short):
            return False
        if line.status >= FIRST_ERROR:
            self._found[line.id] = None
            return True
        tokens = 0
        if (usage := line.usage) is not None:
            tokens = usage.input + usage.output
            sums = self._tokens.setdefault(line.model, [0, 0, 0])
            sums[0] += usage.input
            sums[1] += usage.output
            sums[2] += usage.cached
        else:
            self._unmeasured.append((line.model, sent.reserved))
        if line.usd is None:
            self._unpriced += tokens
            if usage is not None:
                known = self._without_price.get(line.model, Usage())
                self._without_price[line.model] = known + usage
        else:
            self._usd = (self._usd or 0.0) + line.usd
        self._found[line.id] = _Cost(tokens, line.usd)
        self._seconds += line.seconds
        return True

    def sums(self) -> dict[str, Any]:
        """What they add up to, as the fields of `Sums`."""
        spent = {
            model: Usage(input=sums[0], output=sums[1], cached=sums[2])
            for model, sums in self._tokens.items()
        }
        open_ = [one for one in self._found.values() if isinstance(one, Short)]
        return {
            "unpriced": self._without_price,
            "recent": self._recent,
            "totals": self._totals(sum(spent.values(), start=Usage()), open_),
            "spent": spent,
            "perhaps": [*((one.model, one.reserved) for one in open_), *self._unmeasured],
        }

    def _totals(self, usage: Usage, open_: Sequence[Short]) -> Totals:
        costs = {name: one for name, one in self._found.items() if isinstance(one, _Cost)}
        replayed = [costs[name] for name, _ in self._replays if name in costs]
        return Totals(
            requests=len(self._found),
            answers=len(costs),
            failed=len(self._found) - len(costs) - len(open_),
            perhaps_paid=len(open_),
            replayed=len(replayed),
            usage=usage,
            usd=self._usd,
            unpriced=self._unpriced,
            saved=_sum(one.usd for one in replayed),
            saved_tokens=sum(one.tokens for one in replayed),
            reserved=Reserved(
                tokens=sum(one.reserved.tokens for one in open_),
                usd=_sum(one.reserved.usd for one in open_),
            ),
            seconds=self._seconds,
        )


def _sum(amounts: Iterable[float | None]) -> float | None:
    """What is known of them, added up; None where nothing is."""
    known = [amount for amount in amounts if amount is not None]
    return math.fsum(known) if known else None


def _encoded(line: AnswersLine) -> bytes:
    try:
        return msgspec.json.encode(line)
    except UnicodeEncodeError:  # half of a surrogate pair, which no reader takes; `?` stands for it
        text = json.dumps(msgspec.to_builtins(line), separators=(",", ":"), ensure_ascii=False)
        return text.encode(errors="replace")


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
            write_behind(self._descriptor, content + b"\n", sync=False)
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
