from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from runner.record.evallog import plain_json
from runner.record.files import UNREADABLE, named

# A longer line is no event that a person would read, and a hostile one takes many times its bytes.
LONGEST_EVENT = 1024 * 1024


class Event(msgspec.Struct, frozen=True, gc=False):
    """One line of a log."""

    sample_id: str | int | None = None
    type: str = ""
    data: Any = None


_decode = msgspec.json.Decoder(Event).decode


def events_of(path: Path) -> Iterator[tuple[Event | None, int, int]]:
    """Read a log in a stream, one line in memory.

    Returns:
        For each line its event, or None if it cannot be read or is too long; where it begins, and
        its length.
    """
    offset = 0
    with named(path, "read"), path.open("rb") as file:
        while text := file.readline(LONGEST_EVENT):
            length = len(text)
            if length == LONGEST_EVENT and not text.endswith(b"\n"):
                while text and not text.endswith(b"\n"):
                    text = file.readline(LONGEST_EVENT)
                    length += len(text)
                yield None, offset, length
            elif text != b"\n":
                yield event_of(text), offset, length
            offset += length


def event_of(text: bytes) -> Event | None:
    """Read one line; None if it is no event."""
    try:
        return _decode(text)
    except UNREADABLE:
        pass
    try:  # looking for what only Python writes takes as long as reading does
        return _decode(plain_json(text))
    except UNREADABLE:
        return None
