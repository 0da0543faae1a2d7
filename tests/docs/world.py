"""Where the commands of a page are typed: a home, a clone, a remote, and programs on the path."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from runner.engine.labels import Label
from tests.branch.desk import git
from tests.conftest import OURS, engine_api, until
from tests.docs.code_blocks import Block, Typed
from tests.docs.page import ROOT

# What the pages call a repository for runs, and what it is here.
REMOTE = "git@example.org:me/runs"
HUB = "hub.git"

# Variables by which the test, or the make that runs it, could change what a command does.
NOT_THEIRS = (
    *OURS,
    "XDG_",
    "GIT_",
    "PYTEST_",
    "MAKE",
    "MFLAGS",
    "VIRTUAL_ENV",
    "PYTHON",
    "COLUMNS",
)
# As pages write it, and what the provider takes.
KEY = "..."
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN", "MY_API_KEY")


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command.

    Attributes:
        typed: the command.
        status: its exit code, -1 if it was never reached.
        said: what it printed, its errors behind the rest.
    """

    typed: Typed
    status: int
    said: str


class World(msgspec.Struct, frozen=True, kw_only=True):
    """A user's machine, as far as it is below a folder.

    Attributes:
        top: the folder.
        image: that evals run in.
        cache: the user's cache folder, of all tests of a session.
        provider: address of the models that are asked.
    """

    top: Path
    image: str
    cache: Path
    provider: str

    @property
    def clone(self) -> Path:
        """Of the project, with a remote."""
        return self.top / "clone"

    @property
    def home(self) -> Path:
        """The user's."""
        return self.top / "home"

    def make(self) -> None:
        """Make it, with nothing run yet."""
        for name in ("home", "tmp", "said", "elsewhere", "another"):
            (self.top / name).mkdir(parents=True)
        self.settle()
        git(self.top, "init", "--quiet", "--bare", HUB)
        shutil.copytree(ROOT / "registry", self.clone / "registry")
        (self.clone / ".venv").symlink_to(sys.prefix)
        (self.clone / "evals.env").write_text("# nothing but this\nEVALS_THREADS=2\n")
        git(self.top, "init", "--quiet", "--initial-branch=main", "clone")
        git(self.clone, "config", "user.name", "A User")
        git(self.clone, "config", "user.email", "user@example.org")
        git(self.clone, "remote", "add", "origin", REMOTE)
        git(self.clone, "add", "registry")
        git(self.clone, "commit", "--quiet", "--message=first")

    def settle(self) -> None:
        """Let Git find the remote here; to be done again where the folder was copied."""
        settings = f'[url "{self.top / HUB}"]\n\tinsteadOf = {REMOTE}\n'
        (self.home / ".gitconfig").write_text(settings)

    def environ(self, **variables: str | None) -> dict[str, str]:
        """What a shell there has; a variable without a value is taken away."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(NOT_THEIRS)
        }
        own: dict[str, str | None] = {
            "HOME": str(self.home),
            "TMPDIR": str(self.top / "tmp"),
            "XDG_CACHE_HOME": str(self.cache),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SAID": str(self.top / "said"),
            "EVALSET_IMAGE": self.image,
            "EVALSET_NETWORK": "none",
            **dict.fromkeys(KEYS, KEY),
            "OPENAI_BASE_URL": self.provider,
            **variables,
        }
        return kept | {name: value for name, value in own.items() if value is not None}

    @contextmanager
    def typing(
        self, block: Block, folders: list[Path], **variables: str | None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Type a block's commands into one shell, each in its folder; it has ended at the end."""
        lines = []
        for index, (typed, folder) in enumerate(zip(block.typed, folders, strict=True)):
            lines += [
                f"cd '{folder}'",
                "{",
                typed.text,
                f'}} >"$SAID/{index}.out" 2>"$SAID/{index}.err"',
                f'echo $? >"$SAID/{index}.status"',
            ]
        with subprocess.Popen(
            ["bash", "-c", "\n".join(lines)],
            stdin=subprocess.DEVNULL,
            env=self.environ(**variables),
            cwd=self.clone,
        ) as shell:
            try:
                yield shell
                shell.wait(timeout=120)
            finally:
                for child in children(shell.pid):
                    os.kill(child, 9)
                shell.kill()

    def said(self, index: int) -> str:
        """What a command has printed so far."""
        paths = [self.top / "said" / f"{index}.{stream}" for stream in ("out", "err")]
        return "".join(path.read_text() for path in paths if path.exists())

    def status(self, index: int) -> str:
        """A command's exit code, once it has ended."""
        path = self.top / "said" / f"{index}.status"
        return path.read_text().strip() if path.exists() else ""

    def ended(self, block: Block) -> list[Ended]:
        """What became of a block's commands."""
        return [
            Ended(typed=typed, status=int(self.status(index) or -1), said=self.said(index))
            for index, typed in enumerate(block.typed)
        ]

    def run(self, line: str, folder: Path) -> None:
        """Type what is to have happened before."""
        subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env=self.environ(),
            check=True,
            capture_output=True,
            timeout=120,
        )

    @contextmanager
    def running(self, line: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A run with evals that wait, and one of them has begun to."""
        with subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=self.clone,
            env=self.environ(EVALS_WAIT="1"),
            stdout=subprocess.DEVNULL,
        ) as run:
            try:
                api = engine_api()
                running = partial(self.containers, every=False)
                until(lambda: any(b"waiting" in api.logs(one) for one in running()), 60)
                yield run
            finally:
                run.kill()

    def let_go(self) -> None:
        """Tell the waiting evals to end."""
        for private in (self.clone / "progress/.attempts").iterdir():
            (private / "go").touch()

    def containers(self, *, every: bool = True) -> list[str]:
        """Ids of the containers of its progress directories, or of the running ones alone."""
        listed = engine_api().containers(all=every, filters={"label": Label.ATTEMPT})
        return [
            about["Id"]
            for about in listed
            if Path(about["Labels"][Label.PROGRESS]).is_relative_to(self.top)
        ]


def children(process: int) -> list[int]:
    """Ids of the processes that it has started."""
    try:
        return [*map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]
    except FileNotFoundError:
        return []


def address(said: str) -> str:
    """The first address in a text, if it is whole."""
    found = re.search(r"^(http://\S+)$", said, re.MULTILINE)
    return found[1] if found else ""
