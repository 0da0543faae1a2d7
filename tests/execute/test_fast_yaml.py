import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
import yaml

from runner.execute import fast_yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def quick() -> ModuleType:
    """A copy of yaml's namespace with the hook applied; yaml itself stays as it is."""
    copy = SimpleNamespace(**vars(yaml))
    module = cast("ModuleType", copy)
    fast_yaml.quicken(module)
    return module


def test_the_hook_changes_yaml_when_it_is_imported() -> None:
    """The hook waits for the import of yaml, and then replaces safe_load alone."""
    code = (
        "import sys; import runner.execute.fast_yaml as hook; assert 'yaml' not in sys.modules\n"
        "import yaml; print(yaml.safe_load.__module__, yaml.load.__module__, yaml.safe_load('[1]'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["runner.execute.fast_yaml", "yaml", "[1]"]


def test_python_without_yaml_is_left_alone() -> None:
    """Where there is no yaml, importing it fails as it does without the hook."""
    code = (
        "import sys, runner.execute.fast_yaml; sys.path.clear()\n"
        "try: import yaml\n"
        "except ModuleNotFoundError as error: print(error.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "yaml"


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
    fast_yaml.quicken(module)
    assert module.safe_load("!double 21") == 42


def test_a_yaml_without_libyaml_is_left_alone() -> None:
    """Where PyYAML was built without libyaml, nothing is replaced."""
    module = cast("ModuleType", SimpleNamespace(safe_load=yaml.safe_load))
    fast_yaml.quicken(module)
    assert module.safe_load is yaml.safe_load
