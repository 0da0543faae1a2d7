import pytest

from runner.errors import UsageError
from runner.registry.entries import Registry, RegistryFile, merge_registries, parse_registry
from runner.registry.resolve import resolve_eval, resolve_eval_set

EVALS = """
match: {id: match.dev.v0}
match.dev.v0: {class: x:Y}
chain: {id: match}
other.dev.v0: {class: x:Y}
other.test.v0: {class: x:Y}
classless: {args: {}}
listed: [1]
numbered: {id: 5}
bad-class: {class: 5}
bad-args: {class: x, args: 5}
round: {id: about}
about: {id: round}
dangling: {id: other.dev.v1}
"""
EVAL_SETS = """
set: {evals: ["other.*", chain, match, "mat*"]}
alias: {id: alias2}
alias2: {id: set}
loop: {id: pool}
pool: {id: loop}
lost: {id: sett}
none: {}
bare: [match]
text: {evals: match}
numbers: {evals: [1, 2]}
empty: {evals: []}
dead: {evals: [match, matchh]}
dead-star: {evals: ["nothing.*"]}
"""


def registry(eval_sets: str = EVAL_SETS, *, builtin: bool = False) -> Registry:
    return parse_registry(
        [
            RegistryFile(path="evals/e.yaml", kind="evals", text=EVALS),
            RegistryFile(path="eval_sets/s.yaml", kind="eval_sets", text=eval_sets),
        ],
        builtin=builtin,
    )


def refusal(name: str, eval_sets: str = EVAL_SETS) -> str:
    """The message of the usage error that the set leads to."""
    with pytest.raises(UsageError) as caught:
        resolve_eval_set(registry(eval_sets), name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["set", "alias", "alias2"])
def test_a_set_gives_resolved_keys_in_registry_order_once_each(name: str) -> None:
    """Aliases of sets and of evals are followed, whatever the order of the patterns."""
    found = resolve_eval_set(registry(), name)
    assert found.evals == ("match.dev.v0", "other.dev.v0", "other.test.v0")
    assert found.names["match.dev.v0"] == ("match.dev.v0", "match", "match.dev.v0", "chain")
    assert found.warnings == ()


def test_a_set_may_take_evals_of_another_registry() -> None:
    """A user's set lists built-in evals too."""
    text = "mine: {evals: [match, own]}"
    own = parse_registry(
        [
            RegistryFile(path="mine/evals/e.yaml", kind="evals", text="own: {class: x}"),
            RegistryFile(path="mine/eval_sets/s.yaml", kind="eval_sets", text=text),
        ]
    )
    found = resolve_eval_set(merge_registries([registry(), own]), "mine")
    assert found.evals == ("match.dev.v0", "own")


def test_an_unknown_set_is_refused_with_the_closest_names() -> None:
    """Upstream would log a warning, say that all is done, and exit 0."""
    assert refusal("ste") == "no eval set `ste`; did you mean `set`?"
    assert refusal("qqqq") == "no eval set `qqqq`; `evalset list` shows all"


@pytest.mark.parametrize(
    ("name", "model", "passed_through"),
    [
        ("gpt-4", "5", ("--max_samples", "set")),
        ("gpt-4", "me", ("--user", "set")),
        ("gpt-4", "5", ("--max_samples", "typo")),
        ("gpt-4", "0.5", ("--temperature", "typo")),
    ],
)
def test_names_shifted_by_an_option_before_them_are_explained(
    name: str, model: str, passed_through: tuple[str, ...]
) -> None:
    """`--max_samples 5 gpt-4 set` is answered with where such options belong."""
    with pytest.raises(UsageError, match="options that are passed through come last") as caught:
        resolve_eval_set(registry(), name, model=model, passed_through=passed_through)
    assert "no eval set `gpt-4`" in str(caught.value)
    assert f"`{model}`" in str(caught.value)


def test_swapped_names_are_explained() -> None:
    """The eval set stands where the model belongs."""
    with pytest.raises(UsageError, match="the model comes first: `gpt-4 set`, not `set gpt-4`"):
        resolve_eval_set(registry(), "gpt-4", model="set")


@pytest.mark.parametrize("model", ["m", "4.0.1"])
def test_a_mere_typing_error_is_not_explained_by_shifted_names(model: str) -> None:
    """An option where it belongs leaves the closest names to be told."""
    with pytest.raises(UsageError, match="did you mean `set`"):
        resolve_eval_set(registry(), "sett", model=model, passed_through=("--max_samples", "5"))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("none", "`none` in eval_sets/s.yaml has no `evals`"),
        ("bare", "`bare` in eval_sets/s.yaml has no `evals`"),
        ("text", "`text` in eval_sets/s.yaml has `evals` that are not a list"),
        ("numbers", "`numbers` in eval_sets/s.yaml has `evals` that are not a list"),
        ("empty", "`empty` in eval_sets/s.yaml has an empty list"),
        (
            "loop",
            "eval set `loop` is an alias that leads in a circle: loop -> pool -> loop; fix",
        ),
        ("lost", "`lost` in eval_sets/s.yaml is an alias of `sett`, which is in no registry"),
        (
            "dead",
            "eval set `dead` in eval_sets/s.yaml lists `matchh`, which matches no eval; did",
        ),
        ("dead-star", "lists `nothing.*`, which matches no eval"),
    ],
)
def test_a_set_with_a_fault_is_refused_when_it_is_asked_for(name: str, complaint: str) -> None:
    """The message names set and file; the other sets stay usable."""
    assert complaint in refusal(name)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (
            "classless",
            "eval `classless` in evals/e.yaml has no `class`, such as `my.module:MyEval`",
        ),
        ("listed", "eval `listed` in evals/e.yaml is neither a mapping nor"),
        ("numbered", "eval `numbered` in evals/e.yaml has an `id` that is not text"),
        ("bad-class", "eval `bad-class` in evals/e.yaml has a `class` that is not text"),
        ("bad-args", "eval `bad-args` in evals/e.yaml has `args` that are not a mapping"),
        (
            "round",
            "eval `round` is an alias that leads in a circle: round -> about -> round; fix",
        ),
        ("dangling", "is an alias of `other.dev.v1`, which is in no registry; did you mean"),
    ],
)
def test_an_eval_with_a_fault_is_refused_when_a_set_has_it(name: str, complaint: str) -> None:
    """The message names eval and file."""
    assert complaint in refusal("s", f"s: {{evals: [match, {name}]}}")


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ("", ""),
        ("b-2: {id: b-1}\nb-3: {id: b-1.v0}\nb-4: {id: b-4.v0}", ""),
        ("b-1.v1: {class: x:Y}", "; did you mean `b-1.v1`?"),
        ("b-2.v0: {class: x:Y}\nb-2: {id: b-2.v0}", "; did you mean `b-2.v0`?"),
    ],
)
def test_an_alias_of_nothing_is_not_answered_with_aliases_of_nothing(more: str, end: str) -> None:
    """Least of all with itself; names that lead to an eval are proposed."""
    text = f"b-1: {{id: b-1.v0}}\n{more}"
    found = parse_registry([RegistryFile(path="evals/e.yaml", kind="evals", text=text)])
    with pytest.raises(UsageError) as caught:
        resolve_eval(found, "b-1")
    line = "eval `b-1` in evals/e.yaml is an alias of `b-1.v0`, which is in no registry"
    assert str(caught.value) == line + end


def test_upstreams_own_set_with_a_dead_name_runs_with_a_warning() -> None:
    """`stock-options` has one, and must run as it does in upstream; all dead is an error."""
    found = resolve_eval_set(registry(builtin=True), "dead")
    assert found.evals == ("match.dev.v0",)
    assert "`matchh`" in found.warnings[0]
    with pytest.raises(UsageError, match="matches no eval"):
        resolve_eval_set(registry(builtin=True), "dead-star")


def test_one_eval_is_resolved_by_itself() -> None:
    """A name that is in no registry is refused with the closest."""
    assert resolve_eval(registry(), "chain") == "match.dev.v0"
    with pytest.raises(UsageError, match="no eval `chian`; did you mean `chain`"):
        resolve_eval(registry(), "chian")
