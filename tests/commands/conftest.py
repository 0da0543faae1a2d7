import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from runner.options import DEFAULT_IMAGE
from tests.commands.repositories import begin, commit
from tests.forked import run_forked
from tests.privileges import bound_by_permissions
from tests.run.conftest import image_on_top, other_image

# Fixtures of another folder.
__all__ = ["image_on_top", "other_image"]

# What would change a program's mind about what to do, or what to show.
UNSET = (
    "EVALSET_",
    "OPENAI_",
    "EVALS_",
    "GITHUB_",
    "GIT_",
    "CI",
    "NO_COLOR",
    "FORCE_COLOR",
    "TERM",
)

NO_ENGINE = "unix:///nonexistent/docker.sock"

LINES = [
    f'["oaieval", "dummy", "{name}", "--registry_path", "/registry/0"]\n'
    for name in ("a.dev.v0", "b.dev.v0")
]
PROGRESS = "".join(LINES)

REGISTRY = {
    "evals/mine.yaml": """\
a: {id: a.dev.v0}
a.dev.v0: {class: "evals.elsuite.basic.match:Match", args: {samples_jsonl: a.jsonl}}
b.dev.v0: {class: "evals.elsuite.basic.match:Match", args: {samples_jsonl: a.jsonl}}
c.dev.v0: {class: "evals.elsuite.basic.match:Match", args: {samples_jsonl: a.jsonl}}
""",
    "eval_sets/mine.yaml": """\
mine: {evals: [a, b.dev.v0, c.dev.v0]}
""",
    "data/a.jsonl": '{"input": "1", "ideal": "1"}\n',
}


class Here(msgspec.Struct, frozen=True):
    """A folder in which programs are run as a user runs them.

    Attributes:
        folder: where they are run.
        environ: what they get.
        engine: the engine's address, empty for the default one.
    """

    folder: Path
    environ: dict[str, str]
    engine: str

    @property
    def progress(self) -> Path:
        """The progress file of `dummy mine`."""
        return self.folder / "progress/oaievalset/dummy.mine.progress.txt"

    def put(self, name: str, content: str | bytes) -> Path:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def evalset(
        self, *arguments: str | bytes, bound: bool = False, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run `evalset`; with `bound`, files' permissions count for root, too."""
        if bound:
            return self.python("-m", "runner", *arguments, bound=True, **variables)
        return self._run("evalset", *arguments, variables=variables)

    def oaievalset(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run the drop-in."""
        return self._run("oaievalset", *arguments, variables=variables)

    def python(
        self, *arguments: str | bytes, bound: bool = False, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Start a new Python."""
        line = [sys.executable, *arguments]
        return subprocess.run(
            [*bound_by_permissions(), *line] if bound else line,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            cwd=self.folder,
            env=self._environ(variables),
            timeout=60,
        )

    def refused(
        self,
        *arguments: str | bytes,
        code: int = 2,
        bound: bool = False,
        **variables: str,
    ) -> str:
        """Run `evalset`, and give the one line that it says, when all it did was refuse."""
        before = contents(self.folder)
        ended = self.evalset(*arguments, bound=bound, **variables)
        line = only_line(ended, code)
        assert contents(self.folder) == before
        return line

    def _run(
        self, program: str, *arguments: str | bytes, variables: dict[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        environ = self._environ(variables)
        return run_forked(
            program, arguments, cwd=self.folder, env=environ, errors="surrogateescape"
        )

    def _environ(self, variables: dict[str, str]) -> dict[str, str]:
        engine = {"DOCKER_HOST": self.engine} if self.engine else {}
        return self.environ | engine | variables


def only_line(ended: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The line on stderr of a program that said nothing else."""
    assert ended.stdout == ""
    assert ended.stderr.endswith("\n")
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("Error: ")
    assert ended.returncode == code, ended.stderr
    return ended.stderr[len("Error: ") : -1]


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, with what is in it."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def _here(tmp_path: Path, cache: Path, engine: str) -> Here:
    home = tmp_path / "home"
    folder = tmp_path / "folder"
    home.mkdir()
    folder.mkdir()
    own = {"HOME": str(home), "XDG_CACHE_HOME": str(cache), "COLUMNS": "100"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(UNSET)}
    here = Here(folder, kept | own, engine)
    here.put("progress/oaievalset/dummy.mine.progress.txt", PROGRESS)
    for name, content in REGISTRY.items():
        here.put(f"own/{name}", content)
    return here


@pytest.fixture
def here(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Here:
    """A folder with progress and a registry, on a machine without an engine."""
    return _here(tmp_path, tmp_path_factory.mktemp("empty-cache"), NO_ENGINE)


@pytest.fixture
def here_with_engine(tmp_path: Path, cache: Path) -> Here:
    """The same, with the real engine; the image's registry is read once a session."""
    return _here(tmp_path, cache, "")


@pytest.fixture
def image() -> str:
    """The eval image's name."""
    return DEFAULT_IMAGE


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A bare repository elsewhere."""
    return begin(tmp_path / "hub.git", "--bare")


@pytest.fixture
def repository(here: Here) -> Path:
    """The folder, as a repository with two commits."""
    begin(here.folder)
    commit(here.folder, "one\n")
    commit(here.folder, "two\n")
    return here.folder
