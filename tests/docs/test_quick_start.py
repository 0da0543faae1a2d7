import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/quick-start.md"
COMMAND = re.compile(r"^\$ (.+)\n((?:[^$`\n].*\n)*)", re.MULTILINE)


@pytest.mark.docker
def test_the_quick_start_does_what_it_shows(tmp_path: Path) -> None:
    """Its commands succeed in their order in an empty folder, and print the lines shown."""
    environ = {
        name: value for name, value in os.environ.items() if name[:5] not in ("EVALS", "GITHU")
    }
    program = Path(sys.executable).parent
    environ |= {"PATH": f"{program}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    environ["OPENAI_API_KEY"] = "none"
    found = COMMAND.findall(PAGE.read_text())
    assert len(found) == PAGE.read_text().count("\n$ ") > 5
    for command, shown in found:
        ended = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, (command, ended.stderr)
        for line in shown.splitlines():
            assert line in ended.stdout, command
    assert (tmp_path / "report/index.html").is_file()
