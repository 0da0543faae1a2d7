import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.image.look import _FIND_PYTHON

SAY = "import sys; print(sys.executable, sys.argv)"


def asked(folder: Path, content: str | bytes | None) -> "subprocess.CompletedProcess[str]":
    """Ask the Python of an `oaieval` with this content, as a look into an image does."""
    if content is not None:
        program = folder / "oaieval"
        program.write_bytes(content if isinstance(content, bytes) else content.encode())
        program.chmod(0o755)
    return subprocess.run(
        ["/bin/sh", "-c", _FIND_PYTHON, "sh", SAY, "a b", "$c"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{folder}:{Path(sys.executable).parent}:/usr/bin:/bin"},
    )


@pytest.mark.parametrize(
    "content",
    [
        f"#!{sys.executable}\nimport sys\n",
        f"#!{sys.executable} -E\nimport sys\n",
        "#!/usr/bin/env python3\nimport sys\n",
        f"#!{sys.executable}",
        f"#!/bin/sh\n'''exec' {sys.executable} \"$0\" \"$@\"\n' '''\nimport sys\n",
        f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\nimport sys\n",
    ],
    ids=["path", "option", "env", "no newline", "long path", "path with a blank"],
)
def test_the_python_of_oaieval_is_found(tmp_path: Path, content: str) -> None:
    """However the installer has put it into the program's first lines; arguments arrive whole."""
    ended = asked(tmp_path, content)
    assert ended.stderr == ""
    assert ended.stdout.endswith("['-c', 'a b', '$c']\n")
    assert os.path.basename(ended.stdout.split()[0]).startswith("python")  # noqa: PTH119 - text


@pytest.mark.parametrize(
    "content",
    [None, "#!/bin/sh\necho me\n", b"\x7fELF\x00\x01", "", "#!/usr/bin/perl\n"],
    ids=["none", "a shell's", "a binary", "empty", "another language's"],
)
def test_an_oaieval_that_is_no_python_program_is_told(tmp_path: Path, content: str | None) -> None:
    """As a shell tells of a command that is not there; it is not started."""
    ended = asked(tmp_path, content)
    assert (ended.returncode, ended.stdout) == (127, "")
