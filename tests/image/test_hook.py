import hashlib
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
import yaml

from runner.image import patches
from runner.image.hook import CHANGES, PATCHES, quicken_yaml
from runner.image.patches import copy_benchmarks, keep_encodings, patch_token_usage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def quick() -> ModuleType:
    """A copy of yaml's namespace with the hook applied; yaml itself stays as it is."""
    copy = SimpleNamespace(**vars(yaml))
    module = cast("ModuleType", copy)
    quicken_yaml(module)
    return module


def test_the_hook_changes_yaml_when_it_is_imported() -> None:
    """The hook waits for the import of yaml, and then replaces safe_load alone."""
    code = (
        "import sys; import runner.image.hook as hook; assert 'yaml' not in sys.modules\n"
        "import yaml; print(yaml.safe_load.__module__, yaml.load.__module__, yaml.safe_load('[1]'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["runner.image.hook", "yaml", "[1]"]


def test_each_patch_is_a_function() -> None:
    """The hook has them by name, because it imports them only when they are needed."""
    assert all(callable(getattr(patches, name)) for name in PATCHES.values())


def test_python_without_yaml_is_left_alone() -> None:
    """Where there is no yaml, importing it fails as it does without the hook."""
    code = (
        "import sys, runner.image.hook; sys.path.clear()\n"
        "try: import yaml\n"
        "except ModuleNotFoundError as error: print(error.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "yaml"


def test_the_hook_imports_little() -> None:
    """Nothing slows each Python in the image down."""
    code = (
        "import sys, runner.image; before = set(sys.modules); import runner.image.hook as hook\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = {name.partition(".")[0] for name in done.stdout.split()} - {"runner"}
    assert modules <= {"__future__", "gc", "importlib", "warnings"}


@pytest.mark.upstream
def test_upstreams_registry_reads_the_same(quick: ModuleType) -> None:
    """Each file of upstream's registry gives the same values with libyaml as without."""
    (registry,) = (ROOT / ".venv-upstream" / "lib").glob("python3*/site-packages/evals/registry")
    paths = sorted(registry.glob("*/*.yaml"))
    assert len(paths) > 400
    for path in paths[::8]:
        text = path.read_text(encoding="utf-8")
        assert quick.safe_load(text) == yaml.safe_load(text), path


def test_a_loader_that_was_taught_tags_is_kept() -> None:
    """A program's own constructors on SafeLoader work as before."""

    class Taught(yaml.SafeLoader):
        """SafeLoader of a program that has tags of its own."""

    Taught.add_constructor("!double", lambda _, node: 2 * int(node.value))
    module = cast("ModuleType", SimpleNamespace(**{**vars(yaml), "SafeLoader": Taught}))
    quicken_yaml(module)
    assert module.safe_load("!double 21") == 42


def test_a_yaml_without_libyaml_is_left_alone() -> None:
    """Where PyYAML was built without libyaml, nothing is replaced."""
    module = cast("ModuleType", SimpleNamespace(safe_load=yaml.safe_load))
    quicken_yaml(module)
    assert module.safe_load is yaml.safe_load


class Usage(dict[str, object]):
    """What the API's client makes of a usage report: a mapping of names to numbers and groups."""


def _added_up(*usages: object) -> dict[str, object]:
    """The token counts that the fixed function adds for these answers."""
    module = cast("ModuleType", SimpleNamespace())
    patch_token_usage(module)
    events = [SimpleNamespace(data={"usage": usage}) for usage in usages]
    result: dict[str, object] = {"accuracy": 0.5}
    module.add_token_usage_to_result(result, SimpleNamespace(get_events=lambda _: events))
    assert result.pop("accuracy") == 0.5
    return result


def test_token_counts_in_groups_are_added_up() -> None:
    """A report with nested groups gives the sums of all its numbers."""
    usage = Usage(total_tokens=8, completion_tokens_details=Usage(reasoning_tokens=2))
    assert _added_up(usage, usage) == {
        "usage_total_tokens": 16,
        "usage_completion_tokens_details_reasoning_tokens": 4,
    }


@pytest.mark.parametrize("usage", [None, {}, {"tier": "default", "details": None}, "none", 7])
def test_an_answer_without_token_counts_adds_none(usage: object) -> None:
    """Answers whose usage is missing, empty or no mapping change nothing."""
    assert _added_up(usage) == {}


def test_the_hook_changes_upstreams_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that oaieval runs from is fixed, and what its import made is put aside."""
    frozen: list[bool] = []
    monkeypatch.setattr("gc.freeze", lambda: frozen.append(True))
    module = SimpleNamespace(add_token_usage_to_result=None, run=None)
    CHANGES["evals.cli.oaieval"](cast("ModuleType", module))
    assert callable(module.add_token_usage_to_result)
    assert callable(module.run)
    assert frozen == [True]


def test_dummy_says_its_name() -> None:
    """As other models do, so that an eval that asks for it runs with `dummy`, too."""
    api = SimpleNamespace(DummyCompletionFn=type("DummyCompletionFn", (), {}))
    CHANGES["evals.api"](cast("ModuleType", api))
    assert vars(api.DummyCompletionFn)["model"] == "dummy"


@pytest.mark.parametrize(
    ("asked", "variables", "loaded"),
    [
        ("hellaswag", {}, "Rowan/hellaswag"),
        ("unknown", {}, "unknown"),
        ("me/words", {}, "me/words"),
        ("json", {}, "json"),
        ("folder", {}, "folder"),
        ("hellaswag", {"HF_HUB_OFFLINE": "1"}, "hellaswag"),
        ("hellaswag", {"HF_DATASETS_OFFLINE": "1"}, "hellaswag"),
    ],
)
def test_data_named_without_an_owner_get_the_one_that_the_hub_leads_to(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    variables: dict[str, str],
    loaded: str,
) -> None:
    """It is asked for names that it leads elsewhere, and for no others."""
    names: list[str] = []

    def dataset_info(name: str, **_: object) -> SimpleNamespace:
        names.append(name)
        return SimpleNamespace(id={"hellaswag": "Rowan/hellaswag"}[name])

    hub = SimpleNamespace(HfApi=lambda: SimpleNamespace(dataset_info=dataset_info))
    monkeypatch.setitem(sys.modules, "huggingface_hub", cast("ModuleType", hub))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    module = SimpleNamespace(
        load_dataset=lambda path, split: (path, split), _PACKAGED_DATASETS_MODULES={"json": 1}
    )

    CHANGES["datasets.load"](cast("ModuleType", module))

    assert module.load_dataset(asked, split="test") == (loaded, "test")
    assert names == ([asked] if asked in {"hellaswag", "unknown"} and not variables else [])


def _check_hash(data: bytes, expected_hash: str) -> bool:
    """As tiktoken's own."""
    return hashlib.sha256(data).hexdigest() == expected_hash


def test_an_encoding_of_the_image_is_known_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other is fetched as ever: of another hash, of another name, and without a hash."""
    folder = tmp_path / "share/tiktoken"
    folder.mkdir(parents=True)
    (folder / "a.tiktoken").write_bytes(b"YQ== 0\n")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    fetched: list[str] = []

    def read_file_cached(blobpath: str, expected_hash: str | None = None) -> bytes:
        fetched.append(f"{blobpath} {expected_hash}")
        return b"fetched"

    load = SimpleNamespace(read_file_cached=read_file_cached, check_hash=_check_hash)
    keep_encodings(cast("ModuleType", load))
    known = hashlib.sha256(b"YQ== 0\n").hexdigest()
    assert load.read_file_cached("https://host/a.tiktoken", known) == b"YQ== 0\n"
    assert fetched == []
    for blobpath, expected in (("a.tiktoken", "0"), ("b.tiktoken", known), ("a.tiktoken", None)):
        assert load.read_file_cached(f"https://host/{blobpath}", expected) == b"fetched"
    assert fetched == [
        "https://host/a.tiktoken 0",
        f"https://host/b.tiktoken {known}",
        "https://host/a.tiktoken None",
    ]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that looks for its benchmarks next to it, as hr-ml-agent-bench does."""
    package = tmp_path / "own_bench"
    (package / "benchmarks/task").mkdir(parents=True)
    for name in ("__init__", "environment", "benchmarks/__init__", "benchmarks/task/grade"):
        (package / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("", ".environment", ".benchmarks", ".benchmarks.task", ".benchmarks.task.grade"):
        monkeypatch.delitem(sys.modules, f"own_bench{name}", raising=False)
    return import_module("own_bench.environment")


def test_benchmarks_that_cannot_be_written_in_place_are_copied(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both how they are imported and where they are looked for lead to one copy."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    copy_benchmarks(bench)
    grade = Path(str(import_module("own_bench.benchmarks.task.grade").__file__))
    assert grade == Path(str(bench.__file__)).parent / "benchmarks/task/grade.py"
    assert grade.is_file()
    assert not grade.is_relative_to(tmp_path / "own_bench")


def test_benchmarks_that_can_be_written_in_place_stay(bench: ModuleType) -> None:
    """As while the image is built, which keeps no copy."""
    before = bench.__file__
    copy_benchmarks(bench)
    assert bench.__file__ == before
