import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import PROGRAMS, run_forked


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("evalset", ["--version"]),
        ("evalset", ["status", "m", "s", "--json"]),
        ("evalset", ["run", b"\xff", "s"]),
        ("oaievalset", ["--help"]),
        ("oaievalset", ["m"]),
    ],
)
def test_a_forked_program_ends_as_a_started_one(
    tmp_path: Path, program: str, arguments: list[str | bytes]
) -> None:
    """With the same exit code, and the same words on the same streams."""
    env = {**os.environ, "HOME": str(tmp_path), "COLUMNS": "90"}
    forked = run_forked(program, arguments, cwd=tmp_path, env=env, errors="surrogateescape")
    started = subprocess.run(
        [sys.executable, *PROGRAMS[program], *arguments],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        cwd=tmp_path,
        env=env,
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


def test_what_python_reads_when_it_starts_takes_a_start(tmp_path: Path) -> None:
    """A variable of Python's own is heeded, too."""
    env = {**os.environ, "PYTHONVERBOSE": "1"}
    assert (
        "import 'runner.cli'" in run_forked("evalset", ["--version"], cwd=tmp_path, env=env).stderr
    )


def test_a_forked_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """As `subprocess.run` does it."""
    path = tmp_path / "progress/oaievalset/m.s.progress.txt"
    path.parent.mkdir(parents=True)
    path.write_text('["oaieval", "m", "a"]\n')
    with pytest.raises(subprocess.TimeoutExpired):
        run_forked("evalset", ["view", "--port", "0"], cwd=tmp_path, env=os.environ, timeout=1)
