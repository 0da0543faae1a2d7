"""Root passes every permission, so tests about permissions run their programs with less."""

import os
import subprocess
import sys
from pathlib import Path

# Root without these two is stopped by permissions like everyone else.
BYPASSES = "-dac_override,-dac_read_search"


def bound_by_permissions(*argv: str) -> list[str]:
    """The command line that runs `argv` such that files' permissions count."""
    if os.geteuid() != 0:
        return list(argv)
    return ["setpriv", f"--bounding-set={BYPASSES}", f"--inh-caps={BYPASSES}", *argv]


def python_bound_by_permissions(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code for which files' permissions count."""
    return subprocess.run(
        bound_by_permissions(sys.executable, "-c", code, *map(str, arguments)),
        capture_output=True,
        text=True,
        check=False,
    )


def python_on_small_disk(
    code: str, place: Path, *, size: str = "64k"
) -> subprocess.CompletedProcess[str]:
    """Run Python code that finds a file system of that size mounted at `place`, its argument.

    The mount is seen by nobody else, and is gone with the process.
    """
    apart = (
        ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    )
    shell = 'mount -t tmpfs -o "size=$1" none "$2" && exec "$3" -c "$4" "$2"'
    return subprocess.run(
        [*apart, "sh", "-c", shell, "sh", size, place, sys.executable, code],
        capture_output=True,
        text=True,
        check=False,
    )
