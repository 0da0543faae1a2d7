import subprocess
import sys
from pathlib import Path

import pytest

from tests.setup.machine import ROOT

SCRIPTS = (
    *("bare", "compat", "debian.sh", "engine", "lock", "mutants", "python", "record", "release"),
    *("setup", "test-tools", "upstream"),
)


@pytest.mark.parametrize("script", [*(f"scripts/{name}" for name in SCRIPTS), ".ci/run"])
def test_the_scripts_please_shellcheck(script: str) -> None:
    """Each script is free of shellcheck's findings."""
    shellcheck = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run(
        [shellcheck, "-x", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_every_script_is_checked() -> None:
    """The list of scripts above leaves none out."""
    assert sorted(path.name for path in (ROOT / "scripts").iterdir()) == sorted(SCRIPTS)
