import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import msgspec

from runner.files import UNREADABLE, make_folder, named, sync_folder, write_behind

# The byte order mark that some editors put before a file.
_MARK = b"\xef\xbb\xbf"

# What stands around a text: blanks, and the zero bytes that a power loss leaves on some file
# systems.
BLANK = b" \t\r\n\v\f\0"

# What parts two texts that lost the end of line between them. In JSON none of these stands inside a
# text, but the mark, which is why a line is first read as a whole.
_BETWEEN = re.compile(rb"[\0\r]+|\xef\xbb\xbf|(?<=\])(?=\[)|(?<=\})(?=\{)")


def read_lines(content: bytes, take: Callable[[int, bytes], bool]) -> list[int]:
    """Read a file of lines, whatever editors, power losses and other programs have made of it.

    Args:
        take: is given a line's number and a text in it, and tells whether it understood that.

    Returns:
        Numbers of the lines that were not understood as a whole; a torn last line is none of them.
    """
    lines = content.split(b"\n")
    damaged = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text and not take(number, text) and not _read_parts(text, number, take):
            damaged.append(number)
    return [number for number in damaged if number < len(lines)]


def _read_parts(text: bytes, number: int, take: Callable[[int, bytes], bool]) -> bool:
    bare = _bare(text)
    if not bare:
        return b"\0\0" not in text  # else it was a text
    if bare != text and take(number, bare):
        return True
    parts = [part for piece in _BETWEEN.split(bare) if (part := _bare(piece))]
    if len(parts) == 1:
        return False
    taken = [part[:1] in {b"[", b"{"} and take(number, part) for part in parts]
    return all(taken)


def _bare(text: bytes) -> bytes:
    text = text.strip(BLANK)
    while text.startswith(_MARK):
        text = text.removeprefix(_MARK).strip(BLANK)
    return text


def written_by_newer(source: str, lines: Sequence[int]) -> list[str]:
    """A message about lines whose version is a later one, by their numbers; none for none."""
    if not lines:
        return []
    some = ", ".join(map(str, lines[:3])) + (", ..." if lines[3:] else "")
    message = (
        f"{source}: written by a newer evalset: line {some}; what this one understands of it "
        "counts, and it is left as it is"
    )
    return [message]


class LineFile:
    """A file of lines that is only appended to; what `add` returned from survives a power loss.

    A torn last line, left by a crash in the middle of a write, is moved to `{name}.torn`, so that
    every other reader finds whole lines only.
    """

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self.path = path
        with named(path, "write"):
            new = not path.exists()
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            if new:
                sync_folder(path.parent)
            self._end_last_line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def add(self, *lines: str) -> None:
        """Append lines, all with one fsync; on an error the file is as it was before."""
        self._append("".join(f"{line}\n" for line in lines).encode())

    def _append(self, data: bytes) -> None:
        with named(self.path, "write"):
            write_behind(self._descriptor, data, sync=True)

    def _end_last_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size == 0 or os.pread(self._descriptor, 1, size - 1) == b"\n":
            return
        start = self._start_of_last_line(size)
        tail = os.pread(self._descriptor, size - start, start)
        if _is_whole(tail):
            os.write(self._descriptor, b"\n")
        else:
            with LineFile(self.path.with_name(f"{self.path.name}.torn")) as torn:
                torn._append(tail + b"\n")
            os.ftruncate(self._descriptor, start)
        os.fsync(self._descriptor)

    def _start_of_last_line(self, size: int) -> int:
        block = 65536
        end = size
        while end > 0:
            begin = max(0, end - block)
            found = os.pread(self._descriptor, end - begin, begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
        return 0


def _is_whole(line: bytes) -> bool:
    """Whether a last line without its newline has a complete text in it.

    A line of plain text always counts as complete: what is cut off is then a command that no job
    has, which does no harm.
    """
    whole = []

    def take(_: int, text: bytes) -> bool:
        if text.startswith((b"[", b"{")):
            try:
                msgspec.json.decode(text)
            except UNREADABLE:
                return False
        elif b"\0" in text:
            return False
        whole.append(text)
        return True

    read_lines(line, take)
    return bool(whole)
