import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
COMMAND = re.compile(r"^\$ (.+)\n((?:[^$`\n].*\n)*)", re.MULTILINE)
FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.docker
@pytest.mark.parametrize("page", ["quick-start.md", "registry.md"])
def test_a_page_to_follow_does_what_it_shows(page: str, tmp_path: Path) -> None:
    """Its commands succeed in their order in an empty folder, and print the lines shown."""
    environ = {
        name: value for name, value in os.environ.items() if name[:5] not in ("EVALS", "GITHU")
    }
    program = Path(sys.executable).parent
    environ |= {"PATH": f"{program}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    environ["OPENAI_API_KEY"] = "none"
    text = (DOCS / page).read_text()
    for name, content in FILE.findall(text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    found = COMMAND.findall(text)
    assert len(found) == text.count("\n$ ") > 3
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
    reported = "evalset report" in text
    assert (tmp_path / "report/index.html").is_file() == reported
