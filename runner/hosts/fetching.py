import os
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path

from runner.files import named
from runner.hosts.messages import PIECE, HasEnded, Message, Piece, Read
from runner.records.folders import MOST_FILES, private_folder, remove_tree
from runner.records.layout import Layout

# Pieces of an attempt's files that are under way at once.
AT_ONCE = 4

# Bytes of a console log: what the engine keeps of it, and the times in its lines.
LARGEST_CONSOLE = 2**26

# The name of the console log in the private folder, until it gets its own.
CONSOLE = "console.log"

# Bytes of a name that a host gives a file.
_LONGEST = 4096

_ATTEMPT = re.compile(r"\d{12}[A-Z2-7]{8}")


def is_attempt(name: str) -> bool:
    """Whether this can be the id of an attempt, and so the name of a folder."""
    return bool(_ATTEMPT.fullmatch(name))


class Fetch:
    """Brings the files of an attempt that has ended into its private folder here.

    Args:
        ended: what its host says of it, which is not trusted: sizes are limited, and names checked.
        send: tells its host something.
        done: is called once with why the files are not all here; empty if they are.
    """

    def __init__(
        self,
        ended: HasEnded,
        layout: Layout,
        *,
        send: Callable[[Message], None],
        done: Callable[[str], None],
    ) -> None:
        self.ended = ended
        self._layout = layout
        self._private = layout.private(ended.attempt)
        self._send = send
        self._done = done
        self._sizes: dict[str, int] = {}
        self._wanted: deque[tuple[str, int]] = deque()
        self._under_way: set[tuple[str, int]] = set()
        self._over = False

    def begin(self) -> None:
        """Ask for the first pieces, whatever was here before."""
        if problem := self._refusal():
            self._finish(problem)
            return
        with named(self._private, "create the folder"):
            if self._private.exists():
                remove_tree(self._private)
            with private_folder(self._layout, self.ended.attempt) as folder:
                (folder / "evallogs").mkdir(mode=0o700)
        for file in self.ended.files:
            self._sizes[file.name] = file.size
            self._wanted += ((file.name, offset) for offset in range(0, file.size, PIECE))
            with named(self._path(file.name), "write"):
                self._create(file.name)
        self._ask()

    def take(self, piece: Piece) -> None:
        """A piece has come."""
        place = (piece.name, piece.offset)
        if self._over or place not in self._under_way:
            return
        self._under_way.discard(place)
        size = min(PIECE, self._sizes[piece.name] - piece.offset)
        if len(piece.data) != size:
            self._finish(f"its host sent {len(piece.data)} bytes of a file in the place of {size}")
            return
        with named(self._path(piece.name), "write"):
            _write(self._path(piece.name), piece.offset, piece.data)
        self._ask()

    def cancel(self) -> None:
        """Forget it."""
        self._over = True

    def _refusal(self) -> str:
        files = self.ended.files
        names = [file.name for file in files]
        limit = self.ended.job.settings.tmp_limit
        if len(files) > MOST_FILES + 2 or len(set(names)) < len(names):
            return "its host says that it left more files than an eval may"
        if any(file.size < 0 for file in files):
            return "its host says that it left files of less than no bytes"
        if sum(file.size for file in files if file.name) > limit:
            return "its host says that it left more than --tmp-limit"
        if any(file.size > LARGEST_CONSOLE for file in files if not file.name):
            return "its host says that it printed more than an engine keeps"
        for name in filter(None, names):
            parts = name.split("/")
            if {"", ".", ".."} & set(parts) or "\0" in name or len(os.fsencode(name)) > _LONGEST:
                return f"its host says that it left a file {name[:60]!a}"
        return ""

    def _path(self, name: str) -> Path:
        return self._private / "evallogs" / name if name else self._private / CONSOLE

    def _create(self, name: str) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600))

    def _ask(self) -> None:
        while self._wanted and len(self._under_way) < AT_ONCE:
            name, offset = self._wanted.popleft()
            self._under_way.add((name, offset))
            self._send(Read(attempt=self.ended.attempt, name=name, offset=offset))
        if not self._wanted and not self._under_way:
            self._finish("")

    def _finish(self, problem: str) -> None:
        if not self._over:
            self.cancel()
            self._done(problem)


_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def _write(path: Path, offset: int, data: bytes) -> None:
    descriptor = os.open(path, _FLAGS)
    try:
        while data:
            written = os.pwrite(descriptor, data, offset)
            offset += written
            data = data[written:]
    finally:
        os.close(descriptor)
