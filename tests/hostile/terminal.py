import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path


def shown_on_a_terminal(line: Sequence[str], environ: Mapping[str, str], folder: Path) -> str:
    """All that a program writes to a terminal of 40 lines and 160 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    with subprocess.Popen(
        line, stdout=theirs, stderr=theirs, cwd=folder, env={**environ, "TERM": "xterm-256color"}
    ):
        os.close(theirs)
        parts = []
        with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
            while part := os.read(ours, 65536):
                parts.append(part)
    os.close(ours)
    return b"".join(parts).decode(errors="replace")
