from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from runner.record.evallog import LONGEST_LINE, plain_json
from runner.record.files import UNREADABLE

# Of metrics, the usual one first.
_FIGURES = ("accuracy", "score", "f1_score", "bleu", "metascore")


class Facts(msgspec.Struct, frozen=True):
    """What an index of samples keeps of an event's data; all else in it is passed over.

    Attributes:
        correct: of a match.
        accuracy: of metrics, as are the next four.
        score: as above.
        f1_score: as above.
        bleu: as above.
        metascore: as above.
        model: that was sampled from, as its API calls it.
        usage: tokens, as the API counts them.
    """

    correct: Any = None
    accuracy: Any = None
    score: Any = None
    f1_score: Any = None
    bleu: Any = None
    metascore: Any = None
    model: Any = None
    usage: Any = None

    @property
    def figure(self) -> float | None:
        """The figure that metrics are about."""
        for name in _FIGURES:
            value = getattr(self, name)
            if isinstance(value, int | float) and abs(value) < float("inf"):
                return float(value)
        return None


class Event(msgspec.Struct, frozen=True):
    """One line of a log, without what only its page shows."""

    sample_id: str | int | None = None
    type: str = ""
    data: Facts | list[Any] | str | float | bool | None = None


class WholeEvent(msgspec.Struct, frozen=True):
    """One line of a log with all that its data hold."""

    sample_id: str | int | None = None
    type: str = ""
    data: Any = None


_EVENTS = msgspec.json.Decoder(Event)
_WHOLE_EVENTS = msgspec.json.Decoder(WholeEvent)

Kind = TypeVar("Kind")


def events_of(path: Path) -> Iterator[tuple[Event | None, int, int]]:
    """Read a log in a stream, one line in memory.

    Returns:
        For each line its event, or None if it cannot be read; where it begins, and its length.
    """
    offset = 0
    with path.open("rb") as file:
        while text := file.readline(LONGEST_LINE):
            length = len(text)
            if length == LONGEST_LINE and not text.endswith(b"\n"):
                while text and not text.endswith(b"\n"):
                    text = file.readline(LONGEST_LINE)
                    length += len(text)
                yield None, offset, length
            elif text != b"\n":
                yield _decoded(_EVENTS, text), offset, length
            offset += length


def whole_event(text: bytes) -> WholeEvent | None:
    """Read one line; None if it is no event."""
    return _decoded(_WHOLE_EVENTS, text)


def _decoded(decoder: "msgspec.json.Decoder[Kind]", text: bytes) -> Kind | None:
    try:
        return decoder.decode(text)
    except UNREADABLE:
        pass
    try:  # looking for what only Python writes takes as long as reading does
        return decoder.decode(plain_json(text))
    except UNREADABLE:
        return None
