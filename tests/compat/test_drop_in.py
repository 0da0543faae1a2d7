import inspect
import json
import os
import shutil
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from runner import oaievalset
from runner.oaievalset import OaiEvalSetArguments, Progress, run
from runner.records.progress import read_progress
from tests.compat.upstream import PYTHON
from tests.conftest import Place

pytestmark = [pytest.mark.docker, pytest.mark.upstream]

# Where upstream keeps its files, always.
UPSTREAMS_PLACE = Path("/tmp")

SIGNATURES = """
import inspect, json
from evals.cli import oaievalset
def shape(function):
    return [[p.name, p.kind.name, None if p.default is p.empty else repr(p.default)]
            for p in inspect.signature(function).parameters.values()]
print(json.dumps({
    **{name: shape(getattr(oaievalset, name)) for name in ("run", "get_parser", "Progress")},
    **{name: shape(getattr(oaievalset.Progress, name)) for name in ("load", "add", "save")},
    "arguments": sorted(oaievalset.OaiEvalSetArguments.__annotations__),
}))
"""
RUN = """
import sys
from evals.cli import oaievalset
args, unknown = oaievalset.get_parser().parse_known_args(sys.argv[1:])
oaievalset.run(args, unknown, run_command="program")
"""
WRITE = """
import json, sys
from evals.cli.oaievalset import Progress
progress = Progress(sys.argv[1])
for command in json.load(sys.stdin):
    progress.add(command)
"""
READ = """
import json, sys
from evals.cli.oaievalset import Progress
progress = Progress(sys.argv[1])
print(json.dumps([progress.load(), progress.completed]))
"""
COMMANDS = [
    ["oaieval", "org/model", "a.dev.v0", "--max_samples", "5"],
    ["oaieval", "m", "é ☃ \U0001f600", 'a "quoted" \\ thing', "", " "],
]
# Stands for `oaieval` on the host: notes that it was run, and fails for one eval.
HOST_PROGRAM = """#!/bin/sh
echo "$2" >> "$RAN"
test "$2" != silent.b
"""


def upstream(code: str, *arguments: object, **settings: str) -> str:
    """Run code under upstream's Python; give what it prints."""
    given = settings.pop("given", None)
    ended = subprocess.run(
        [PYTHON, "-c", code, *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENAI_API_KEY": "x", **settings},
    )
    # Upstream ends with a traceback where an eval failed: that is for the test to expect.
    return ended.stdout + ended.stderr


class Both(msgspec.Struct, frozen=True):
    """One place in which upstream and we run the same set, one after the other.

    Attributes:
        place: with the registry.
        model: whose name nobody else uses, with a `/`.
        ran: file of the evals that upstream has run.
    """

    place: Place
    model: str
    ran: Path

    @property
    def progress(self) -> Path:
        """The progress file, where upstream has it."""
        return UPSTREAMS_PLACE / f"oaievalset/{self.model}.s.progress.txt"

    @property
    def arguments(self) -> list[str]:
        """What both programs are given."""
        registry = str(self.place.folder / "registry")
        return [self.model, "s", "--registry_path", registry, "--max_samples", "5"]

    def upstream(self, *more: str) -> str:
        """Run the set with upstream; give what it says."""
        path = f"{self.place.folder / 'bin'}:{os.environ['PATH']}"
        return upstream(RUN, *self.arguments, *more, PATH=path, RAN=str(self.ran))

    def ours(self, *more: str) -> "subprocess.CompletedProcess[str]":
        """Run the set with our drop-in, as it stands on the command line."""
        return subprocess.run(
            [Path(sys.executable).with_name("oaievalset"), *self.arguments, *more],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.place.folder,
            env=self.place.environ(EVALSET_RUN_COMMAND="program"),
        )

    def finished(self) -> list[str]:
        """Evals in the progress file."""
        return [command[2] for command in read_progress(self.progress).commands]


@pytest.fixture
def both(place: Place) -> Iterator[Both]:
    place.registry("silent.a", "silent.b", "silent.c")
    program = place.folder / "bin/program"
    program.parent.mkdir()
    program.write_text(HOST_PROGRAM)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    organisation = f"test-{uuid.uuid4().hex}"
    yield Both(place, f"{organisation}/model", place.folder / "ran")
    for path in (
        UPSTREAMS_PLACE / "oaievalset" / organisation,
        *UPSTREAMS_PLACE.glob(f"evallogs/*_{organisation}"),
    ):
        shutil.rmtree(path)


def test_what_upstream_finished_is_not_run_again(both: Both) -> None:
    """Upstream stops at a failure; our drop-in continues from its file, and upstream from ours."""
    assert "CalledProcessError" in both.upstream()
    assert both.finished() == ["silent.a"]
    ended = both.ours()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "1 of them finished before; 2 to run" in ended.stdout
    assert both.finished() == ["silent.a", "silent.b", "silent.c"]
    registry = str(both.place.folder / "registry")
    for line in both.progress.read_text().splitlines():
        assert json.loads(line)[3:] == ["--max_samples", "5", "--registry_path", registry]
    both.ran.unlink()
    assert "3/3 evals already completed" in both.upstream()
    assert not both.ran.exists()


def test_a_folder_that_is_no_registry_keeps_nothing_from_running(both: Both) -> None:
    """Upstream passes over it, and over one that is not there, in silence; we warn."""
    folder = both.place.folder
    (folder / "empty").mkdir()
    (folder / "file").touch()
    names = ("empty", "none", "file")
    more = [word for name in names for word in ("--registry_path", str(folder / name))]
    assert "CalledProcessError" in both.upstream(*more)
    assert both.finished() == ["silent.a"]
    ended = both.ours(*more)
    assert ended.returncode == 0, ended.stderr
    assert both.finished() == ["silent.a", "silent.b", "silent.c"]
    said = ended.stdout + ended.stderr
    assert f"warning: the registry folder {folder}/empty has none of a registry's folders" in said
    assert f"warning: the registry folder {folder}/none does not exist" in said
    assert f"warning: the registry folder {folder}/file is a file, not a folder" in said


def test_a_model_with_a_slash_has_its_files_where_upstream_has_them(both: Both) -> None:
    """Progress and logs are in a subfolder below /tmp."""
    assert both.ours().returncode == 0
    assert both.progress.is_file()
    assert list(UPSTREAMS_PLACE.glob(f"evallogs/*_{both.model}_silent.a.console.log"))


def test_we_read_what_upstreams_progress_writes(tmp_path: Path) -> None:
    """Every command that its class saves is finished for us."""
    path = tmp_path / "deep/progress.txt"
    upstream(WRITE, path, given=json.dumps(COMMANDS))
    found = read_progress(path)
    assert [list(command) for command in found.commands] == COMMANDS
    assert found.damaged == ()


def test_upstreams_progress_reads_what_we_write(tmp_path: Path) -> None:
    """Byte for byte it is the file that its class would have written."""
    theirs, ours = tmp_path / "theirs.txt", tmp_path / "ours.txt"
    upstream(WRITE, theirs, given=json.dumps(COMMANDS))
    written = Progress(str(ours))
    for command in COMMANDS:
        written.add(command)
    assert ours.read_bytes() == theirs.read_bytes()
    assert json.loads(upstream(READ, ours)) == [True, COMMANDS]


def test_the_api_has_upstreams_signatures() -> None:
    """Names, order, kinds and defaults of all parameters are upstream's."""

    def shape(function: object) -> list[list[str | None]]:
        assert callable(function)
        return [
            [each.name, each.kind.name, None if each.default is each.empty else repr(each.default)]
            for each in inspect.signature(function).parameters.values()
        ]

    ours = {
        **{name: shape(getattr(oaievalset, name)) for name in ("run", "get_parser", "Progress")},
        **{name: shape(getattr(Progress, name)) for name in ("load", "add", "save")},
        "arguments": sorted(OaiEvalSetArguments.__annotations__),
    }
    assert json.loads(upstream(SIGNATURES)) == ours


class UpstreamLike:
    """A registry of upstream's making, as far as its `run` uses one."""

    def get_eval_set(self, name: str) -> SimpleNamespace | None:
        """Give the set."""
        return SimpleNamespace(evals=["x", "y"]) if name == "s" else None

    def get_evals(self, patterns: list[str]) -> Iterator[SimpleNamespace | None]:
        """Give its evals; upstream's may be None, or the same one twice."""
        assert patterns == ["x", "y"]
        yield SimpleNamespace(key="silent.x")
        yield None
        yield SimpleNamespace(key="silent.x")
        yield SimpleNamespace(key="fail.7")


@pytest.mark.parametrize("exit_on_error", [True, False])
def test_the_api_runs_a_registry_of_upstreams(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, exit_on_error: bool
) -> None:
    """`run` takes the evals of the object that it is given, and raises as upstream does."""
    for name, value in place.environ(EVALSET_PROGRESS_DIR=str(place.progress)).items():
        monkeypatch.setenv(name, value)
    parser = oaievalset.get_parser()
    line = ["m", "s"] if exit_on_error else ["m", "s", "--no-exit-on-error"]
    args, unknown = parser.parse_known_args(line, OaiEvalSetArguments())
    monkeypatch.chdir(place.folder)
    if exit_on_error:
        with pytest.raises(subprocess.CalledProcessError):
            run(args, unknown, registry=UpstreamLike(), run_command="/bin/program")
    else:
        run(args, unknown, registry=UpstreamLike(), run_command="/bin/program")
    assert place.finished() == ["silent.x"]
    assert [record.command for record in place.records()] == [
        ("/bin/program", "m", "silent.x"),
        ("/bin/program", "m", "fail.7"),
    ]
