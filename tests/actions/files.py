import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github"


def read(path: Path) -> Any:  # noqa: ANN401 - YAML
    """A workflow or an action; `on` is text, as GitHub reads it, and not a boolean."""
    return yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - makes texts only


WORKFLOW = read(FOLDER / "workflows/evalset.yml")
ACTION = read(FOLDER / "actions/evalset/action.yml")


def steps(content: Any) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401 - YAML
    """Each step, with the job it is of; an action has but one."""
    jobs = content["jobs"] if "jobs" in content else {"action": content["runs"]}
    for name, job in jobs.items():
        for step in job.get("steps", ()):
            yield name, step


def script(name: str, content: Any = WORKFLOW) -> str:  # noqa: ANN401 - YAML
    """The script of the step of this name, of the workflow's or of the action's."""
    found = {step["run"] for _, step in steps(content) if step.get("name") == name}
    (text,) = found
    return str(text)


def run_script(
    text: str, folder: Path, *, path: str = "", **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run a step's script as GitHub's runner does."""
    own = {"HOME": str(folder), "PATH": f"{path}:{os.environ['PATH']}", "RUNNER_TEMP": str(folder)}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", text],
        cwd=folder,
        env=own | variables,
        capture_output=True,
        text=True,
        check=False,
    )
