import msgspec
import pytest

from runner.errors import UsageError
from runner.registry.entries import (
    EvalEntry,
    EvalSetEntry,
    Registry,
    RegistryFile,
    merge_registries,
    parse_registry,
)


def file(text: str, kind: str = "evals", path: str = "r/evals/a.yaml") -> RegistryFile:
    return RegistryFile(path=path, kind=kind, text=text)


def refusal(*files: RegistryFile) -> str:
    """The message of the usage error that the files lead to."""
    with pytest.raises(UsageError) as caught:
        parse_registry(files)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_evals_and_sets_are_read_in_file_order() -> None:
    """Names keep their order, and both forms of an alias are understood."""
    registry = parse_registry(
        [
            file("ignored: [", "modelgraded", "m.yaml"),
            file("b: {id: c}\na: c\nc: {class: x:Y, args: {n: 1}}"),
            file("s: {evals: [b, 'a*']}\nt: {id: s}", "eval_sets", "s.yaml"),
            file("f: {class: x:Y}", "completion_fns", "f.yaml"),
            file("v: {class: x:Y}", "solvers", "v.yaml"),
        ]
    )
    assert list(registry.evals.items()) == [
        ("b", EvalEntry(source="r/evals/a.yaml", alias="c")),
        ("a", EvalEntry(source="r/evals/a.yaml", alias="c")),
        ("c", EvalEntry(source="r/evals/a.yaml")),
    ]
    assert registry.eval_sets == {
        "s": EvalSetEntry(source="s.yaml", patterns=("b", "a*")),
        "t": EvalSetEntry(source="s.yaml", alias="s"),
    }
    assert registry.completion_fns == {"f": "f.yaml"}
    assert registry.solvers == {"v": "v.yaml"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "null", "---\n"])
def test_an_empty_file_has_no_entries(text: str) -> None:
    """A file of comments alone is fine, as it is for upstream."""
    assert parse_registry([file(text)]) == Registry()


def test_yaml_anchors_and_merges_work() -> None:
    """An entry may take over another's keys."""
    registry = parse_registry([file("a: &a {class: x:Y}\nb: {<<: *a, args: {}}")])
    assert registry.evals["b"] == EvalEntry(source="r/evals/a.yaml")


def test_yaml_that_does_not_parse_is_refused_with_its_line() -> None:
    """The message names file and line."""
    message = refusal(file("a: {class: b}\nc: [1, 2\nd: e\n"))
    assert message.startswith("r/evals/a.yaml, line 3: this is not valid YAML")


@pytest.mark.parametrize(
    "text", ["a: \x01", "a: !!python/object:os.system {}", "a: *nowhere", "\ta: b", "a: 2024-99-99"]
)
def test_yaml_of_any_kind_of_brokenness_is_refused(text: str) -> None:
    """Nothing but a usage error comes out of a broken file, and nothing in it is executed."""
    assert refusal(file(text)).startswith("r/evals/a.yaml")


@pytest.mark.parametrize(("text", "what"), [("- a\n- b", "list"), ("just text", "single value")])
def test_a_file_that_is_no_mapping_is_refused(text: str, what: str) -> None:
    """The message names file and line, and what was found."""
    message = refusal(file("\n" + text))
    assert message == f"r/evals/a.yaml, line 2: expected a mapping of names, found a {what}"


def test_a_name_twice_in_a_file_is_refused_with_both_lines() -> None:
    """Upstream lets the last win without a word; an eval would be lost."""
    message = refusal(file("a: {class: x}\nb: {class: x}\na: {class: y}"))
    assert message.startswith("r/evals/a.yaml, line 3: `a` is already defined at line 1")


@pytest.mark.parametrize(
    ("kind", "called"),
    [
        ("evals", "eval"),
        ("eval_sets", "eval set"),
        ("completion_fns", "completion function"),
        ("solvers", "solver"),
    ],
)
def test_a_name_in_two_files_is_refused_with_both(kind: str, called: str) -> None:
    """The message says what it names and both files, within a registry and across two."""
    told = f"{called} `a` is defined twice, in one.yaml and in two.yaml; rename one of them"
    one = file("a: {class: x, evals: [b]}", kind, "one.yaml")
    two = file("a: {class: y, evals: [b]}", kind, "two.yaml")
    assert refusal(one, two) == told
    with pytest.raises(UsageError) as caught:
        merge_registries([parse_registry([one]), Registry(), parse_registry([two])])
    assert str(caught.value) == told


@pytest.mark.parametrize("keyword", ["key", "group", "cls"])
def test_a_reserved_keyword_is_refused(keyword: str) -> None:
    """Upstream fills these in itself, and refuses them too."""
    message = refusal(file(f"a: {{class: x, {keyword}: y}}"))
    assert message.startswith(f"r/evals/a.yaml: `a` uses the reserved keyword `{keyword}`")


def test_a_name_that_is_not_text_is_refused() -> None:
    """A number as a name wants quotes."""
    assert refusal(file("ok: {class: x}\n12: {class: x}")).startswith("r/evals/a.yaml, line 2: ")


def test_merging_keeps_the_order_of_registries() -> None:
    """The first registry's evals come first."""
    merged = merge_registries(
        [parse_registry([file("z: {class: x}")]), parse_registry([file("a: {class: x}", path="b")])]
    )
    assert list(merged.evals) == ["z", "a"]


def test_a_registry_survives_being_written() -> None:
    """It can be kept as a file, order included."""
    registry = parse_registry(
        [file("b: {id: c}\na: {}"), file("s: {evals: [b]}\nt: {}", "eval_sets")], builtin=True
    )
    written = msgspec.msgpack.encode(registry)
    again = msgspec.msgpack.decode(written, type=Registry)
    assert again == registry
    assert list(again.evals) == ["b", "a"]


def test_upstreams_own_sets_are_known_as_such() -> None:
    """Aliases, and those with a fault, too: the fault is not the user's to fix."""
    text = "s: {evals: [b]}\nalias: s\nbroken: {}"
    upstreams = parse_registry([file(text, "eval_sets")], builtin=True)
    assert [entry.builtin for entry in upstreams.eval_sets.values()] == [True] * 3
    own = parse_registry([file(text, "eval_sets")])
    assert [entry.builtin for entry in own.eval_sets.values()] == [False] * 3
