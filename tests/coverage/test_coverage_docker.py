from pathlib import Path

import pytest

from runner.image.image import Image
from runner.model import Result
from runner.records.layout import Layout
from runner.registry.needs import Needs, read_needs
from tests.coverage.measure import classes, reason, run

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def measured() -> Needs:
    """What `make coverage` found."""
    return read_needs()


def test_each_class_is_imported_as_the_page_says(measured: Needs, eval_image: Image) -> None:
    """The registry of the image has these classes and evals; where this fails, `make coverage`."""
    found = {each.name: each for each in classes(extras=(), eval_image=eval_image.name).classes}
    assert {name: set(each.evals) for name, each in found.items()} == {
        each.name: set(each.evals) for each in measured.classes
    }
    assert {name for name, each in found.items() if each.fails} == {
        each.name for each in measured.classes if each.fails or each.image
    }


def test_an_eval_of_each_family_ends_as_the_page_says(
    measured: Needs, eval_image: Image, tmp_path: Path
) -> None:
    """The first that runs and the first that does not, of families in which some do not."""
    families = [it for it in measured.classes if it.obstacles and not it.fails and not it.image]
    running = [each.runs[0] for each in families if each.runs]
    failing = {each.obstacles[0].evals[0]: each.obstacles[0] for each in families}
    attempts = run([*running, *failing], tmp_path, image=eval_image.name)
    assert {name for name in attempts if attempts[name].result is Result.SUCCESS} == {*running}
    layout = Layout(root=tmp_path / "progress", model="dummy", eval_set="everything")
    said = {name: reason(attempts[name], layout) for name in failing}
    assert said == {name: (it.kind, it.why) for name, it in failing.items()}
