import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from runner.record.files import UNREADABLE

# A line longer than this is passed over: no event of oaieval's comes near, and a hostile log must
# not fill the runner's memory.
LONGEST_LINE = 64 * 1024 * 1024

# A string, which is left alone, or what Python writes for a float that JSON does not have.
_NOT_JSON = re.compile(rb'("(?:[^"\\]|\\.)*")|-?(?:NaN|Infinity)')


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What oaieval's logs of one attempt say.

    Attributes:
        final_report: the last one found, None when there is none.
        samples: how many different samples have an event.
    """

    final_report: dict[str, Any] | None = None
    samples: int = 0


class _Line(msgspec.Struct):
    sample_id: str | int | None = None
    final_report: dict[str, Any] | None = None


def summarise(paths: Iterable[Path]) -> Summary:
    """Read logs in a stream, keeping one line and the ids of the samples in memory.

    Lines that are not oaieval's are passed over: the eval's own code wrote them.
    """
    decoder = msgspec.json.Decoder(_Line)
    report = None
    samples: set[str | int] = set()
    for path in paths:
        with path.open("rb") as file:
            for text in _lines(file):
                try:
                    line = decoder.decode(plain_json(text))
                except UNREADABLE:
                    continue
                if line.sample_id is not None:
                    samples.add(line.sample_id)
                report = line.final_report or report
    return Summary(final_report=report, samples=len(samples))


def plain_json(text: bytes) -> bytes:
    """A line of Python's JSON as JSON: `NaN` and `Infinity`, which only Python writes, are null.

    An eval without a single sample reports an accuracy of NaN.
    """
    if b"NaN" not in text and b"Infinity" not in text:
        return text
    return _NOT_JSON.sub(lambda found: found[1] or b"null", text)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while text := file.readline(LONGEST_LINE):
        if text.endswith(b"\n") or len(text) < LONGEST_LINE:
            yield text
        else:
            while text and not text.endswith(b"\n"):
                text = file.readline(LONGEST_LINE)
