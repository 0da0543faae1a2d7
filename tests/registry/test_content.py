import pytest

from runner.errors import UsageError
from runner.registry.content import Content, Entries, content_of, digest_of, parse_entries
from runner.registry.entries import RegistryFile

EVALS = """\
a.dev.v0: {class: x:Y, args: {samples_jsonl: a/samples.jsonl, deep: [{other: b.jsonl}]}}
graded.dev.v0: {class: x:Y, args: {modelgraded_spec: mine, samples_jsonl: g.jsonl}}
"""
GRADERS = "mine: {prompt: Is it so?}\nunused: {prompt: No.}\n"
MODELS = """\
wrapped: {class: x:Y, args: {inner: base}}
base: {class: x:Y, args: {model: m}}
short: wrapped
elsewhere: {class: x:Y}
"""


def folder(evals: str = EVALS, models: str = MODELS) -> Entries:
    files = [
        RegistryFile(path=f"{kind}/own.yaml", kind=kind, text=text)
        for kind, text in (
            ("evals", evals),
            ("modelgraded", GRADERS),
            ("completion_fns", models),
            ("eval_sets", "s: {evals: [a]}"),
        )
    ]
    return parse_entries(files)


def content(
    eval_key: str = "a.dev.v0",
    *folders: Entries,
    model: str = "gpt-4",
    passed_through: tuple[str, ...] = (),
) -> Content:
    return content_of(
        eval_key,
        model=model,
        passed_through=passed_through,
        folders={f"/registry/{index}": each for index, each in enumerate(folders or (folder(),))},
    )


def digest(found: Content, value: str | None = "h") -> str:
    return digest_of(found, dict.fromkeys(found.data, value))


def names(found: Content) -> set[str]:
    return {name for _, name, _ in found.entries}


def texts(found: Content) -> set[str]:
    return {text for _, text in found.data}


def test_an_eval_takes_its_entry_and_what_its_arguments_may_name() -> None:
    """Whatever an argument is called, and however deep it lies."""
    found = content()
    assert names(found) == {"a.dev.v0"}
    assert texts(found) == {"x:Y", "a/samples.jsonl", "b.jsonl"}
    assert {place for place, _ in found.data} == {"/registry/0"}


def test_an_eval_of_the_image_takes_nothing() -> None:
    """What is in the image is pinned with the image."""
    assert content("test-match.s1.simple-v0") == Content(entries=frozenset(), data=frozenset())


def test_every_folder_is_looked_through() -> None:
    """What one lacks the next may have; data is looked for where the entry stands."""
    found = content("a.dev.v0", {}, folder())
    assert names(found) == {"a.dev.v0"}
    assert {place for place, _ in found.data} == {"/registry/1"}


def test_a_broken_file_is_refused_by_its_path() -> None:
    """As it is where evals are looked for."""
    broken = RegistryFile(path="modelgraded/own.yaml", kind="modelgraded", text="[")
    with pytest.raises(UsageError, match=r"^modelgraded/own\.yaml, line "):
        parse_entries([broken])


def test_a_grader_that_is_named_counts_and_no_other() -> None:
    """Graders are entries of their own, which an argument names."""
    assert names(content("graded.dev.v0")) == {"graded.dev.v0", "mine"}


def test_a_model_counts_with_all_that_it_leads_to() -> None:
    """Aliases, and completion functions inside completion functions."""
    assert names(content("z", model="short")) == {"short", "wrapped", "base"}
    assert names(content("z", model="gpt-4,elsewhere")) == {"elsewhere"}


def test_completion_functions_may_name_each_other() -> None:
    """Each is looked at once."""
    models = "a: {class: x:Y, args: {to: b}}\nb: {class: x:Y, args: {to: [c, a]}}\nc: {to: b}"
    assert names(content("z", folder(models=models), model="a")) == {"a", "b", "c"}


def test_arguments_that_are_passed_through_may_name_something() -> None:
    """A completion function, or other data for an eval of one's own."""
    found = content(passed_through=("--extra_eval_params", "samples_jsonl=c.jsonl,fn=base"))
    assert names(found) == {"a.dev.v0", "base"}
    assert "c.jsonl" in texts(found)


def test_arguments_that_are_passed_through_name_data_of_the_eval_alone() -> None:
    """An eval of the image finds its data in the image, whatever folder its model is from."""
    found = content("z", model="base", passed_through=("--x", "c.jsonl"))
    assert names(found) == {"base"}
    assert "c.jsonl" not in texts(found)


@pytest.mark.parametrize(
    "evals",
    [
        EVALS.replace("x:Y", "x:Z"),
        EVALS.replace("b.jsonl", "c.jsonl"),
        EVALS.replace("deep", "flat"),
    ],
)
def test_a_changed_entry_has_another_digest(evals: str) -> None:
    """Class, values and names count."""
    assert digest(content("a.dev.v0", folder(evals))) != digest(content())


def test_what_means_the_same_has_the_same_digest() -> None:
    """Layout, the order of names, other entries, and the folder's place do not count."""
    same = """\
# another comment
new.dev.v0: {class: q:Q}
a.dev.v0:
  args:
    deep:
      - other: "b.jsonl"
    samples_jsonl: a/samples.jsonl
  class: x:Y
"""
    assert digest(content("a.dev.v0", {}, folder(same))) == digest(content())


def test_data_counts_in_the_digest() -> None:
    """Other content, data that has gone."""
    found = content()
    digests = [digest(found), digest(found, "other"), digest(found, None)]
    assert len(set(digests)) == len(digests)
    assert all(len(each) == 16 for each in digests)


def test_every_value_that_yaml_can_hold_has_a_digest() -> None:
    """Dates, sets, numbers that are no text, and an anchor that holds itself."""
    text = (
        "a.dev.v0: {class: x:Y, args: &args {day: 2025-01-01, set: !!set {b, a}, 1: null, "
        "pi: .nan, yes: true, again: *args}}"
    )
    found = content("a.dev.v0", folder(text))
    assert digest(found) == digest(content("a.dev.v0", folder(text)))
    assert {"a", "b", "x:Y"} == texts(found)
    number = text.replace("1: null", "'1': null")
    assert digest(content("a.dev.v0", folder(number))) != digest(found)


def test_an_anchor_around_itself_in_a_list_has_a_digest() -> None:
    """However deep it lies."""
    found = content("a.dev.v0", folder("a.dev.v0: {class: x:Y, args: {l: &l [1, [*l]]}}"))
    assert digest(found) == "cefc59720017d240"


def test_a_digest_is_the_same_in_every_version() -> None:
    """It is in files of earlier runs: another one would stop those that continue."""
    text = (
        "a.dev.v0: {class: x:Y, args: &args {day: 2025-01-01, set: !!set {b, a}, 1: null, "
        "list: [1, two, 2.5], yes: true, again: *args}}"
    )
    assert digest(content("a.dev.v0", folder(text))) == "1e03052833fdebde"
