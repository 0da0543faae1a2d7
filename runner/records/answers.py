"""The lines of an answers file: what was asked, answered, given again, and paid for.

Each line is a JSON object with its kind and version; answers_file.py reads and writes the files.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from runner.files import UNREADABLE

VERSION = 1

# Of HTTP: the usual status, and the first of those that say no.
OK = 200
FIRST_ERROR = 400


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
        free: whether no provider takes money for it, as for the list of models.
    """

    id: str
    key: str
    attempt: str
    sample: str = ""
    at: str = ""
    model: str = ""
    reserved: Reserved = Reserved()
    free: bool = False


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


class Stopped(_Line, frozen=True, kw_only=True):
    """An attempt was refused an answer for good, so that it cannot succeed any more.

    Attributes:
        why: `budget`, `price`, `key` or `quota`.
        reason: one line for people.
    """

    attempt: str
    why: str
    reason: str = ""


AnswersLine = Request | Sent | Answer | Given | Returned | Failed | Stopped


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
    free: bool = False
    why: str = ""
    reason: str = ""


decode_short = msgspec.json.Decoder(Short).decode


class _Request(Request, frozen=True, kw_only=True, tag="request"):
    """The same, without its body taken apart: that may be much larger in memory than in a file."""

    body: msgspec.Raw = msgspec.Raw()


_decode_line: Callable[[str], AnswersLine] = msgspec.json.Decoder(
    _Request | Sent | Answer | Given | Returned | Failed | Stopped
).decode


def read_line(line: bytes) -> AnswersLine | None:
    """Read all of a line; None if it cannot be read. The body of a request stays JSON."""
    try:
        text = line.decode()
        decode_short(text)
        return _decode_line(text)
    except UNREADABLE:
        return None


def encoded(line: AnswersLine) -> bytes:
    """A line as JSON, without its end of line."""
    try:
        return msgspec.json.encode(line)
    except UnicodeEncodeError:  # half of a surrogate pair, which no reader takes; `?` stands for it
        text = json.dumps(msgspec.to_builtins(line), separators=(",", ":"), ensure_ascii=False)
        return text.encode(errors="replace")
