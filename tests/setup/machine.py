"""A machine that the scripts of set-up see instead of this one."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = (
    *(
        "bash",
        "sh",
        "env",
        "cat",
        "dirname",
        "head",
        "id",
        "mktemp",
        "rm",
        "mkdir",
        "chmod",
        "touch",
    ),
    *("cp", "setsid", "sha256sum", "sleep", "tail", "timeout"),
)


class Machine:
    """A machine that the scripts see instead of this one: its files, its programs, its user."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        for folder in (self.bin, root / "etc", root / "var" / "run", root / "var" / "log"):
            folder.mkdir(parents=True)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/usr/bin/{tool}")
        self.is_user("0")
        self.is_system("debian")
        self.pid_file = root / "var" / "run" / "docker.pid"

    def has(self, program: str, text: str) -> None:
        """Put a program on PATH."""
        path = self.bin / program
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def is_user(self, uid: str) -> None:
        """Say who runs the scripts."""
        self.has("id", f"#!/bin/sh\n[ $1 = -u ] && echo {uid} || echo someone\n")

    def is_system(self, system: str) -> None:
        """Say what the machine runs."""
        (self.root / "etc" / "os-release").write_text(f"ID={system}\n")

    def run(self, script: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a script on this machine."""
        return subprocess.run(
            [script],
            env={
                "PATH": str(self.bin),
                "MACHINE": str(self.root),
                "EVALSET_SETUP_ROOT": str(self.root),
                "EVALSET_ENGINE_PATIENCE": "30",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def engine(self, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run scripts/engine."""
        return self.run(ROOT / "scripts" / "engine", **environment)


def assert_says_one_line(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """The script gave up with the environment's exit code and one line that has the words."""
    assert done.returncode == 3, done
    assert len(done.stderr.splitlines()) == 1, done
    assert all(word in done.stderr for word in words), done
