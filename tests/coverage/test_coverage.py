import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.image.build import Recipe
from runner.options import EXTRAS
from runner.records.layout import Layout
from runner.registry.needs import ClassNeeds, MeasuredObstacle, Needs, read_needs
from tests.coverage.measure import outcomes, outcomes_in, recipes, with_outcomes
from tests.coverage.page import PAGE, page
from tests.coverage.reasons import explain
from tests.outcomes import failure, job, success

UPSTREAM = Path(__file__).parents[2] / ".venv-upstream"

# Where a module's name is not that of the package that it is in.
PACKAGES = {"sklearn": "scikit-learn"}

TRACEBACK = "Traceback (most recent call last):\n  File ...\n"


def test_the_page_is_what_was_measured() -> None:
    """Where this fails, `make docs` writes it anew."""
    assert PAGE.read_text() == page(read_needs())


def test_what_was_measured_is_of_the_locked_release() -> None:
    """A new release of openai/evals needs a new measurement: `make coverage`."""
    assert read_needs().evals_version == Recipe().evals_version


def test_what_was_measured_is_of_images_made_from_the_same() -> None:
    """Other packages, patches or programs in an image may let other evals run: `make coverage`."""
    assert read_needs().recipes == recipes()


def packages_in(lock: bytes) -> set[str]:
    """The names of the packages in a lock."""
    return set(re.findall(r"^([a-z0-9-]+)==", lock.decode(), re.MULTILINE))


def imports_of(path: Path) -> Iterator[str]:
    """The names of the packages that a source imports anywhere, as a lock has them."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str | None] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in names:
            module = str(name).partition(".")[0]
            if module not in sys.stdlib_module_names:
                yield PACKAGES.get(module, module).replace("_", "-")


@pytest.mark.upstream
@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # upstream's
@pytest.mark.parametrize("extra", EXTRAS)
def test_what_evals_of_an_image_on_top_import_is_locked(extra: str) -> None:
    """In its own lock or in the eval image's; what draws upstream's plots is no part of an eval."""
    (site,) = UPSTREAM.glob("lib/python3*/site-packages")
    own = packages_in(Recipe(extra).lock)
    classes = [each for each in read_needs().classes if each.image == extra]
    assert classes
    for each in classes:
        folder = site.joinpath(*each.name.partition(":")[0].split(".")).parent
        paths = [path for path in folder.rglob("*.py") if path.parent != folder / "scripts"]
        found = {name for path in paths for name in imports_of(path)}
        assert found - packages_in(Recipe().lock) - own == set()
        assert found & own


@pytest.mark.parametrize(
    ("said", "kind", "why"),
    [
        (
            "ConnectionError: Couldn't reach 'a/b' on the Hub (OfflineModeIsEnabled)",
            "fetch",
            "loads the data set a/b from the Hugging Face hub",
        ),
        (
            "ConnectionError: ... with url: /encodings/cl100k_base.tiktoken (Caused by",
            "fetch",
            "fetches tiktoken's encoding cl100k_base",
        ),
        (
            "LookupError: \n*****\n  Resource 'wordnet' not found.\n*****\n",
            "fetch",
            "fetches NLTK's wordnet",
        ),
        ("ModuleNotFoundError: No module named 'a.b'", "package", "imports a.b, which no image"),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/x/registry/data/a/b.c'",
            "data",
            "reads registry/data/a/b.c, which",
        ),
        (
            "RuntimeError: Failed to open: /x/evals/registry/data/a/b.jsonl\n",
            "data",
            "reads registry/data/a/b.jsonl, which",
        ),
        (
            "OSError: [Errno 30] Read-only file system: '/x/site-packages/evals/y'",
            "data",
            "writes into its own package",
        ),
        (
            "File /tmp/b/benchmarks/cifar10/scripts/prepare.py, line 5\nurllib.error.URLError: <x>",
            "download",
            "downloads the data of cifar10 by itself",
        ),
        (
            "OSError: Read-only file system: '/e/registry/data/hr_ml_agent_bench/feedback/dataset'",
            "data",
            "asks for Kaggle's data for feedback",
        ),
        ("    assert n_models > 1\nAssertionError\n", "models", "compares several models"),
        ("a.b.DeprecatedEnv: old\n[logged] 1 row", "upstream", "fails: a.b.DeprecatedEnv: old"),
        ("said something\nand ended\n****\n", "upstream", "fails: and ended"),
        ("", "upstream", "fails: it printed nothing"),
    ],
)
def test_the_reason_is_found_in_what_was_printed(said: str, kind: str, why: str) -> None:
    """Whatever stands around it."""
    found = explain(TRACEBACK + said if said else said)
    assert found[0] == kind
    assert found[1].startswith(why)


def test_an_eval_that_failed_gets_its_reason(tmp_path: Path) -> None:
    """Those that succeeded and asked nobody stay; so does a class that cannot be imported."""
    layout = Layout(root=tmp_path, model="dummy", eval_set="everything")
    cannot = ClassNeeds(
        name="m:B",
        fails="no",
        obstacles=(MeasuredObstacle(kind="package", why="imports x", evals=("d",)),),
    )
    before = Needs(
        evals_version="1",
        recipes={"": "f"},
        classes=(ClassNeeds(name="m:A", runs=("a", "b", "c", "e")), cannot),
    )
    attempts = {
        "a": success(job("a")),
        "b": failure(job("b")),
        "c": success(job("c")),
        "e": success(job("e")),
    }
    found = outcomes(attempts, layout, {"b", "e"})
    after = with_outcomes(before, found)
    assert after.recipes == before.recipes
    assert after.classes[1] == cannot
    assert after.classes[0].runs == ("a", "c")
    assert [(it.kind, it.seen, it.evals) for it in after.classes[0].obstacles] == [
        ("upstream", False, ("b",)),
        ("model", True, ("e",)),
    ]
    assert outcomes_in(after).items() > found.items()
    del found["c"]
    with pytest.raises(SystemExit, match="1 evals were not run, such as c"):
        with_outcomes(before, found)
