from typing import Self

import msgspec

from runner.record.files import UNREADABLE
from runner.share.merge import lines_of

VERSION = 1

# A reason that may be gone with the next snapshot: the limit is an option.
TOO_LARGE = "larger than --snapshot-max-file, compressed too"


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A file, or a line of one, that stays on its host; one line of a left-out file.

    Attributes:
        version: of this format.
        path: relative to the progress directory; for a name that holds a secret, its hash.
        host: where it is.
        reason: one line for people.
        size: bytes.
        sha256: of its content, in hex.
    """

    version: int = VERSION
    path: str
    host: str
    reason: str
    size: int
    sha256: str

    @classmethod
    def read(cls, content: bytes) -> list[Self]:
        """The lines of a left-out file that can be read."""
        found = []
        for line in lines_of(content):
            try:
                found.append(msgspec.json.decode(line, type=cls))
            except UNREADABLE:
                continue
        return found

    @property
    def line(self) -> bytes:
        """The line that keeps it."""
        return msgspec.json.encode(self) + b"\n"
