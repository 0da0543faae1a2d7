from pathlib import Path

import pytest

from runner.image.build import Recipe
from runner.records.layout import Layout
from runner.registry.needs import ClassNeeds, Needs, Obstacle, read_needs
from tests.coverage.measure import with_outcomes
from tests.coverage.page import PAGE, page
from tests.coverage.reasons import explain
from tests.outcomes import failure, job, success

TRACEBACK = "Traceback (most recent call last):\n  File ...\n"


def test_the_page_is_what_was_measured() -> None:
    """Where this fails, `make docs` writes it anew."""
    assert PAGE.read_text() == page(read_needs())


def test_what_was_measured_is_of_the_locked_release() -> None:
    """A new release of openai/evals needs a new measurement: `make coverage`."""
    assert read_needs().evals_version == Recipe().evals_version


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
            "File openai_solver.py, line 3\nConnectionError: /encodings/o200k_base.tiktoken (",
            "model",
            "asks a model of its own choice at OpenAI, and fetches tiktoken's encoding o200k_base",
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
    """Those that succeeded stay; so does a class that cannot be imported."""
    layout = Layout(root=tmp_path, model="dummy", eval_set="everything")
    cannot = ClassNeeds(
        name="m:B",
        fails="no",
        obstacles=(Obstacle(kind="package", why="imports x", evals=("d",)),),
    )
    before = Needs(
        evals_version="1", classes=(ClassNeeds(name="m:A", runs=("a", "b", "c")), cannot)
    )
    attempts = {
        "a": success(job("a")),
        "b": failure(job("b")),
        "c": success(job("c")),
    }
    after = with_outcomes(before, attempts, layout)
    assert after.classes[1] == cannot
    assert after.classes[0].runs == ("a", "c")
    assert [it.evals for it in after.classes[0].obstacles] == [("b",)]
    del attempts["c"]
    with pytest.raises(SystemExit, match="1 evals were not run, such as c"):
        with_outcomes(before, attempts, layout)
