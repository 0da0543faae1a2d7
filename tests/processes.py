"""Processes that tests start and do not wait for."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started(
    line: Sequence[str],
    *,
    folder: Path,
    env: Mapping[str, str],
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> Iterator["subprocess.Popen[str]"]:
    """Start a process in a folder; it is killed when the `with` block ends."""
    with subprocess.Popen(
        line, stdout=stdout, stderr=stderr, text=True, cwd=folder, env=env
    ) as process:
        try:
            yield process
        finally:
            process.kill()
