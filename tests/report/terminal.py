import io
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path


class Terminal(io.StringIO):
    """Text that is written to what says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def plain(text: str) -> str:
    """Text without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def on_a_terminal(code: str, **environment: str) -> str:
    """What Python code writes to a real terminal that is its stdout."""
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=theirs,
        env=os.environ | environment,
        cwd=Path(__file__).parents[2],
    )
    os.close(theirs)
    parts = []
    while part := _read(ours):
        parts.append(part)
    os.close(ours)
    assert program.wait() == 0
    return b"".join(parts).decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way to say that the other end is closed
        return b""


class Window:
    """A window of tmux with a program in it, which can be made wider and narrower."""

    def __init__(self, code: str, *, width: int, height: int) -> None:
        self._server = f"evalset-{os.getpid()}"
        program = shlex.join([sys.executable, "-c", code])
        size = ("-x", str(width), "-y", str(height))
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, program)

    def resize(self, width: int, height: int) -> None:
        """Give it another size."""
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def text(self) -> list[str]:
        """Its lines, those that were scrolled away too."""
        return self._tmux("capture-pane", "-p", "-S", "-").rstrip().splitlines()

    def close(self) -> None:
        """End it."""
        self._tmux("kill-server")

    def _tmux(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-L", self._server, *arguments],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"TERM": "screen", "LC_ALL": "C.UTF-8"},
        ).stdout
