from pathlib import Path

import pytest

from runner.registry.entries import EvalEntry, EvalSetEntry, Registry, RegistryCache
from tests.commands.conftest import Here

KNOWN = Registry(
    evals={
        "test-match": EvalEntry(source="f", alias="test-match.s1"),
        "test-match.s1": EvalEntry(source="f"),
    },
    eval_sets={"test-basic": EvalSetEntry(source="f", patterns=("test-match",))},
    completion_fns={"gpt-small": "f"},
    solvers={"gpt-solver": "f"},
)


@pytest.fixture
def here(here: Here) -> Here:
    """A folder on a machine where an image's registry was read once, and no engine answers."""
    RegistryCache(Path(here.environ["XDG_CACHE_HOME"]) / "evalset").put("sha256:00", KNOWN)
    return here


def complete(here: Here, line: str) -> list[str]:
    """What bash offers after pressing Tab at the end of a line."""
    words = line.split(" ")
    ended = here.evalset(
        _EVALSET_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1)
    )
    assert ended.stderr == ""
    return [found.partition(",")[2] for found in ended.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("evalset st", ["status"]),
        ("evalset run gpt", ["gpt-small", "gpt-solver"]),
        ("evalset run d", ["dummy"]),
        ("evalset run dummy test", ["test-basic"]),
        ("evalset status dummy ", ["test-basic"]),
        ("evalset logs dummy test-basic test-m", ["test-match", "test-match.s1"]),
        ("evalset run dummy test-basic --exit", ["--exit-on-error"]),
    ],
)
def test_tab_offers_what_is_known_without_an_engine(
    here: Here, line: str, found: list[str]
) -> None:
    """Models, sets and evals of the last image's registry, commands and options."""
    assert complete(here, line) == found


def test_tab_offers_the_sets_of_the_users_own_registries(here: Here) -> None:
    """`~/.evals`, and a folder `registry` where one stands."""
    (Path(here.environ["HOME"]) / ".evals/eval_sets").mkdir(parents=True)
    (Path(here.environ["HOME"]) / ".evals/eval_sets/a.yaml").write_text("home: {evals: [x]}")
    here.put("registry/eval_sets/a.yaml", "here: {evals: [x]}")
    assert complete(here, "evalset run dummy h") == ["home", "here"]


@pytest.mark.parametrize("content", ["a: [", "test-basic: {evals: [x]}"])
def test_tab_is_no_time_for_an_error(here: Here, content: str) -> None:
    """A registry that cannot be read is passed over."""
    here.put("registry/eval_sets/a.yaml", content)
    here.put("evalset.toml", "colour = 3\n")
    assert complete(here, "evalset run dummy test") == ["test-basic"]
