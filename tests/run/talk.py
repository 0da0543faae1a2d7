from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess


def said_until(run: "subprocess.Popen[str]", words: str) -> str:
    """What a run prints until a line with these words."""
    assert run.stdout
    said = ""
    for line in run.stdout:
        said += line
        if words in line:
            return said
    pytest.fail(f"it never said {words!r}: {said}")
