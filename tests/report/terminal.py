import io
import os
import pty
import re
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
