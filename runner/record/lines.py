import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from runner.record.files import UNREADABLE, make_folder, named, sync_folder


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def add(self, *lines: str) -> None:
        """Append lines, all with one fsync; on an error the file is as it was before."""
        size = os.fstat(self._descriptor).st_size
        data = "".join(f"{line}\n" for line in lines).encode()
        with named(self.path, "write"):
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
                os.fsync(self._descriptor)
            except OSError:
                os.ftruncate(self._descriptor, size)
                raise

    def _end_last_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size == 0 or os.pread(self._descriptor, 1, size - 1) == b"\n":
            return
        start = self._start_of_last_line(size)
        tail = os.pread(self._descriptor, size - start, start)
        if is_whole(tail):
            os.write(self._descriptor, b"\n")
        else:
            with LineFile(self.path.with_name(f"{self.path.name}.torn")) as torn:
                torn.add(tail.decode(errors="replace"))
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


def is_whole(line: bytes) -> bool:
    """Whether a last line without its newline is a complete one.

    A line of plain text always counts as complete: what is cut off is then a command that no job
    has, which does no harm.
    """
    text = line.strip()
    if not text.startswith((b"[", b"{")):
        return True
    try:
        msgspec.json.decode(text)
    except UNREADABLE:
        return False
    return True
