import io
import json

import pytest

from runner.commands.list import show_registry
from runner.errors import UsageError
from runner.registry.entries import Registry, RegistryFile, parse_registry
from tests.commands.conftest import REGISTRY


@pytest.fixture
def registry() -> Registry:
    """Three evals and an alias, and an eval set of them in an order of its own."""
    files = [
        RegistryFile(path=path, kind=path.partition("/")[0], text=text)
        for path, text in REGISTRY.items()
    ]
    return parse_registry(files)


def listed(
    registry: Registry, pattern: str = "*", *, eval_set: str | None = None, as_json: bool = False
) -> str:
    """What `evalset list evals` prints."""
    out = io.StringIO()
    show_registry(registry, "evals", pattern, eval_set=eval_set, out=out, as_json=as_json)
    return out.getvalue()


def test_evals_are_listed_with_their_aliases(registry: Registry) -> None:
    """All that the registry names."""
    assert listed(registry).splitlines() == ["a -> a.dev.v0", "a.dev.v0", "b.dev.v0", "c.dev.v0"]


def test_evals_of_one_set_are_those_that_a_run_runs(registry: Registry) -> None:
    """Under their own names, as the tables of `evalset status` show them."""
    assert listed(registry, eval_set="mine").splitlines() == ["a.dev.v0", "b.dev.v0", "c.dev.v0"]
    assert listed(registry, "b*", eval_set="mine") == "b.dev.v0\n"
    assert json.loads(listed(registry, "b*", eval_set="mine", as_json=True)) == [
        {"name": "b.dev.v0", "alias_of": None}
    ]


def test_a_set_that_is_not_there_is_named(registry: Registry) -> None:
    """With one that is close."""
    with pytest.raises(UsageError, match="no eval set `mien`; did you mean `mine`"):
        listed(registry, eval_set="mien")
