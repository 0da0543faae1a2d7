import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.commands import run as run_command
from runner.errors import UsageError
from runner.model import ContainerSettings
from runner.oaievalset import OaiEvalSetArguments, Progress, get_parser, main, run
from runner.options import RunOptions
from runner.registry.entries import Registry, RegistryFile, parse_registry
from runner.registry.resolve import Resolution
from tests.commands.conftest import NO_ENGINE, Here, only_line

FIRST = ["oaieval", "dummy", "a.dev.v0"]
SECOND = ["oaieval", "dummy", "b.dev.v0", "--max_samples", "5"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[RunOptions, Any]]:
    """What a run would have been asked for, instead of running."""
    found: list[tuple[RunOptions, Any]] = []

    def note(options: RunOptions, *, resolution: Resolution | None, **_: object) -> int:
        found.append((options, resolution))
        return 0

    monkeypatch.setattr(run_command, "run_eval_set", note)
    monkeypatch.chdir(tmp_path)
    for name in ("JOBS", "PROGRESS_DIR", "IMAGE", "TIMEOUT", "RUN_COMMAND", "RESUME"):
        monkeypatch.delenv(f"EVALSET_{name}", raising=False)
    return found


def options(asked: list[tuple[RunOptions, Any]], *line: str) -> RunOptions:
    """What a command line of the drop-in comes to."""
    with pytest.raises(SystemExit) as end:
        main(line)
    assert end.value.code == 0
    return asked[-1][0]


def test_defaults_are_upstreams(asked: list[tuple[RunOptions, Any]]) -> None:
    """One eval after the other, files below /tmp, paths as typed."""
    found = options(asked, "dummy", "test")
    assert (found.model, found.eval_set) == ("dummy", "test")
    assert (found.jobs, found.progress_dir, found.run_command) == (1, Path("/tmp"), "oaieval")
    assert (found.resume, found.exit_on_error, found.as_typed) == (True, True, True)
    assert (found.registry_paths, found.passed_through) == ((), ())


def test_upstreams_options_are_understood(asked: list[tuple[RunOptions, Any]]) -> None:
    """Abbreviations too; the rest is passed through in its order."""
    found = options(
        asked,
        *("dummy", "test", "--no-resume", "--no-exit", "--registry_path", "a", "--reg=b"),
        *("--max_samples", "5", "--jobs", "3"),
    )
    assert (found.resume, found.exit_on_error) == (False, False)
    assert found.registry_paths == ("a", "b")
    assert found.passed_through == ("--max_samples", "5", "--jobs", "3")
    assert found.jobs == 1


def test_our_options_come_from_the_environment(
    asked: list[tuple[RunOptions, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For upstream's command line has no room for them."""
    monkeypatch.setenv("EVALSET_JOBS", "4")
    monkeypatch.setenv("EVALSET_PROGRESS_DIR", "elsewhere")
    monkeypatch.setenv("EVALSET_TIMEOUT", "90s")
    found = options(asked, "dummy", "test")
    assert (found.jobs, found.progress_dir) == (4, Path("elsewhere"))
    assert found.settings.timeout == 90


def test_our_options_come_from_the_configuration(
    asked: list[tuple[RunOptions, Any]], tmp_path: Path
) -> None:
    """As with `evalset run`."""
    (tmp_path / "evalset.toml").write_text('jobs = 2\nprogress-dir = "kept"\n')
    found = options(asked, "dummy", "test")
    assert (found.jobs, found.progress_dir) == (2, Path("kept"))


def test_upstreams_own_options_come_from_its_command_line_alone(
    asked: list[tuple[RunOptions, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts that were written for upstream mean the same, whatever is set here."""
    monkeypatch.setenv("EVALSET_RESUME", "0")
    monkeypatch.setenv("EVALSET_EXIT_ON_ERROR", "0")
    found = options(asked, "dummy", "test")
    assert (found.resume, found.exit_on_error) == (True, True)


@pytest.mark.parametrize(
    "line", [[], ["dummy"], ["dummy", "test", "--registry_path"], ["dummy", "test", "--resume=1"]]
)
def test_a_line_that_upstream_refuses_ends_with_2(here: Here, line: list[str]) -> None:
    """With argparse's own message, on stderr."""
    ended = here.oaievalset(*line)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("usage: oaievalset ")
    assert "oaievalset: error: " in ended.stderr


def test_our_errors_are_one_line(here: Here) -> None:
    """As those of `evalset`."""
    assert "`..`" in only_line(here.oaievalset("../up", "test"), 2)
    assert "EVALSET_JOBS" in only_line(here.oaievalset("dummy", "test", EVALSET_JOBS="x"), 2)
    line = only_line(here.oaievalset("dummy", "test", EVALSET_PROGRESS_DIR="progress"), 3)
    assert NO_ENGINE in line


def test_the_api_takes_upstreams_arguments(asked: list[tuple[RunOptions, Any]]) -> None:
    """`run(args, unknown_args, registry, run_command)`, from any program."""
    args, unknown = get_parser().parse_known_args(
        ["dummy", "test", "--seed", "1"], OaiEvalSetArguments()
    )
    run(args, unknown, run_command="my-eval")
    found, resolution = asked[-1]
    assert (found.run_command, found.passed_through) == ("my-eval", ("--seed", "1"))
    assert resolution is None


def test_the_api_takes_a_registry_of_ours(asked: list[tuple[RunOptions, Any]]) -> None:
    """Its evals are those of the set, aliases resolved."""
    registry: Registry = parse_registry(
        [
            RegistryFile(path="e", kind="evals", text="a: {id: a.v0}\na.v0: {class: x}"),
            RegistryFile(path="s", kind="eval_sets", text="mine: {evals: [a]}"),
        ]
    )
    args = get_parser().parse_args(["dummy", "mine"], OaiEvalSetArguments())
    run(args, [], registry)
    assert asked[-1][1].evals == ("a.v0",)


def test_the_api_passes_over_a_folder_that_is_no_registry(
    asked: list[tuple[RunOptions, Any]], tmp_path: Path
) -> None:
    """As upstream's does; the run warns of it."""
    (tmp_path / "empty").mkdir()
    files = {"evals": "a: {class: x}", "eval_sets": "mine: {evals: [a]}"}
    registry = parse_registry(
        [RegistryFile(path=k, kind=k, text=text) for k, text in files.items()]
    )
    line = ["dummy", "mine", "--registry_path", "empty", "--registry_path", "none"]
    run(get_parser().parse_args(line, OaiEvalSetArguments()), [], registry)
    assert asked[-1][1].evals == ("a",)
    assert asked[-1][0].registry_paths == ("empty", "none")


ENDED = """
import sys
import runner.commands.run
from runner.errors import NobodyReads
from runner.oaievalset import OaiEvalSetArguments, get_parser, run

def end(*_, out, **__):
    try:
        print("what nobody reads", file=out, flush=True)
    except OSError:
        raise NobodyReads(int(sys.argv[1])) from None
    return int(sys.argv[1])

runner.commands.run.run_eval_set = end
args = get_parser().parse_args(["dummy", "mine"], OaiEvalSetArguments())
run(args, [])
"""


@pytest.mark.parametrize("where", [">&-", ">/dev/full", "| :"])
@pytest.mark.parametrize("code", [0, 1])
def test_the_api_ends_as_the_run_did_when_nobody_reads_it(
    here: Here, where: str, code: int
) -> None:
    """A full disk, or a reader that has gone, is no failure of any eval."""
    program = here.put("program.py", ENDED)
    line = f"{sys.executable} {program} {code} {where}; exit ${{PIPESTATUS[0]}}"
    environ = here.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, env=environ
    )
    failed = "CalledProcessError: Command '['oaieval', 'dummy', 'mine']' returned"
    assert (ended.returncode, failed in ended.stderr) == (code, bool(code))
    assert code or ended.stderr == ""


class UpstreamLike:
    """A registry of upstream's making, as far as the API needs it."""

    class _Named:
        def __init__(self, **fields: object) -> None:
            self.__dict__.update(fields)

    def get_eval_set(self, name: str) -> Any:  # noqa: ANN401 - upstream's
        """Give a set, or None."""
        return self._Named(evals=["a*"]) if name == "mine" else None

    def get_evals(self, patterns: list[str]) -> list[Any]:
        """Give the evals, one of them twice."""
        assert patterns == ["a*"]
        return [self._Named(key="a.v0"), None, self._Named(key="a.v0"), self._Named(key="b.v0")]


def test_the_api_takes_a_registry_of_upstreams(asked: list[tuple[RunOptions, Any]]) -> None:
    """Any object with its two methods."""
    args = get_parser().parse_args(["dummy", "mine"], OaiEvalSetArguments())
    run(args, [], UpstreamLike())
    assert asked[-1][1].evals == ("a.v0", "b.v0")


def test_the_api_names_the_set_that_a_registry_lacks(asked: list[tuple[RunOptions, Any]]) -> None:
    """Upstream's registry says nothing itself; nothing is run."""
    args = get_parser().parse_args(["dummy", "other"], OaiEvalSetArguments())
    with pytest.raises(UsageError, match="no eval set `other` in the registry that was given"):
        run(args, [], UpstreamLike())
    assert asked == []


def test_progress_is_written_as_upstream_writes_it(tmp_path: Path) -> None:
    """`add` needs no `save`, and what was there stays."""
    path = tmp_path / "deep/progress.txt"
    written = Progress(str(path))
    assert written.load() is False
    written.add(FIRST)
    assert path.read_text() == json.dumps(FIRST) + "\n"
    written.add(SECOND)
    found = Progress(str(path))
    assert found.load() is True
    assert found.completed == [FIRST, SECOND]
    assert path.read_text() == "".join(json.dumps(item) + "\n" for item in (FIRST, SECOND))


def test_progress_is_saved_whole(tmp_path: Path) -> None:
    """`save` writes what `completed` holds, and nothing else."""
    path = tmp_path / "progress.txt"
    written = Progress(str(path))
    written.add(FIRST)
    written.completed = [SECOND]
    written.save()
    assert path.read_text() == json.dumps(SECOND) + "\n"


def test_progress_reads_old_and_torn_files(tmp_path: Path) -> None:
    """Plain text lines are split at their spaces; a torn last line is left out."""
    path = tmp_path / "progress.txt"
    path.write_text(f"{' '.join(FIRST)}\n{json.dumps(SECOND)[:-4]}")
    found = Progress(str(path))
    assert found.load() is True
    assert found.completed == [FIRST]


def test_settings_of_containers_are_the_defaults(asked: list[tuple[RunOptions, Any]]) -> None:
    """No rule is kept from overriding them, because nothing of them is typed."""
    found = options(asked, "dummy", "test")
    assert found.explicit == frozenset()
    assert isinstance(found.settings, ContainerSettings)
