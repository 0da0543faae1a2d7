"""What docs/github-actions.md shows is what there is."""

import re

import yaml

from tests.actions.files import ACTION, ROOT, WORKFLOW, steps

PAGE = (ROOT / "docs/github-actions.md").read_text()


def test_the_tables_of_inputs_are_complete() -> None:
    """With the defaults that they have."""
    table = PAGE.partition("<!-- inputs -->")[2].partition("<!-- /inputs -->")[0]
    shown = re.findall(r"^\| `([\w-]+)` \| (?:`(.*?)`)? ?\|", table, re.MULTILINE)
    inputs = WORKFLOW["on"]["workflow_call"]["inputs"]
    assert shown == [(name, about.get("default", "")) for name, about in inputs.items()]
    section = PAGE.partition("\n## One step\n")[2].partition("\n## ")[0]
    assert set(ACTION["inputs"]) <= set(re.findall(r"`([\w-]+)`", section))


def test_the_examples_call_what_is_there() -> None:
    """With inputs and secrets that the workflow and the action take, and all that they need."""
    examples = [
        yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes texts only
        for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    ]
    called = [job for example in examples for job in example["jobs"].values() if "uses" in job]
    used = [
        step
        for example in examples
        for _, step in steps(example)
        if "/.github/actions/evalset@" in step.get("uses", "")
    ]
    assert len(called) == len(used) == 1
    about = WORKFLOW["on"]["workflow_call"]
    assert called[0]["uses"].partition("/evalset/")[2] == ".github/workflows/evalset.yml@COMMIT"
    assert set(called[0]["secrets"]) <= set(about["secrets"])
    assert called[0]["permissions"] == WORKFLOW["jobs"]["run"]["permissions"]
    for given, inputs in (
        (called[0]["with"], about["inputs"]),
        (used[0]["with"], ACTION["inputs"]),
    ):
        needed = {name for name, about in inputs.items() if about.get("required") == "true"}
        assert needed <= set(given) <= set(inputs)
