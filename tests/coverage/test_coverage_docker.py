import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import docker
import pytest

from runner.image.image import BASE, Image, look_up_image
from runner.model import Result
from runner.options import EXTRAS, extra_image
from runner.registry.needs import ClassNeeds, Needs, needs, read_needs
from tests.coverage.classes import classes_in
from tests.coverage.measure import askers, attempts_of, classes, reason, run

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


@pytest.fixture(scope="module", params=EXTRAS)
def extra(request: pytest.FixtureRequest, api: docker.APIClient, eval_image: Image) -> str:
    """One of the images on top of the eval image that is here; nothing builds them for a test."""
    name = extra_image(request.param, eval_image.name)
    built = look_up_image(api, name)
    if built is None:
        pytest.skip(f"{name} is not built: evalset image build --extra {request.param}")
    if built.labels.get(BASE) != eval_image.fingerprint:
        pytest.skip(f"{name} is not built on the {eval_image.name} that is here")
    return str(request.param)


def test_an_image_on_top_imports_what_the_page_says(
    measured: Needs, extra: str, eval_image: Image
) -> None:
    """The classes that need it, and none of those that no image has."""
    found = classes_in(extra_image(extra, eval_image.name))
    here = {each.name for each in measured.classes if each.image in {"", extra}}
    assert {name for name, each in found.items() if not each.error} == {
        each.name for each in measured.classes if each.name in here and not each.fails
    }


def test_an_eval_of_each_family_ends_as_the_page_says(
    measured: Needs, eval_image: Image, tmp_path: Path
) -> None:
    """The first that runs and the first that does not, where there are such.

    A stub that takes the place of a provider is asked by those alone of which the page says so.
    """
    families = [it for it in measured.classes if not it.fails and not it.image]
    _end_as_measured(families, tmp_path, eval_image.name)


def test_so_do_those_of_an_image_on_top(
    measured: Needs, extra: str, eval_image: Image, tmp_path: Path
) -> None:
    """Whatever it has the runner choose."""
    families = [it for it in measured.classes if it.image == extra]
    _end_as_measured(families, tmp_path, extra_image(extra, eval_image.name))


def test_a_plan_of_all_evals_names_those_that_cannot_run_and_no_others(
    api: docker.APIClient, eval_image: Image, tmp_path: Path
) -> None:
    """Each with the reason that was measured; what only takes long is started."""
    sets = tmp_path / "registry/eval_sets"
    sets.mkdir(parents=True)
    sets.joinpath("everything.yaml").write_text('everything: {evals: ["*"]}')
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "runner", "run", "dummy", "everything", "--dry-run", "--json"),
            *("--registry-path", str(tmp_path / "registry"), "--network", "none"),
            *("--progress-dir", str(tmp_path / "progress")),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**kept, "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    assert ended.returncode == 1, ended.stderr
    plan = json.loads(ended.stdout)
    why = {each["command"][2]: each["why"] for each in plan["why"]}
    announced = {command[2]: why[command[2]] for command in plan["cannot"]}
    expected = {}
    for name, need in needs().items():
        lacks = need.image and look_up_image(api, extra_image(need.image, eval_image.name)) is None
        if lacks or need.kind not in {None, "time"}:
            reason = f"needs the image {extra_image(need.image)}" if lacks else need.why
            expected[name] = f"cannot run: it {reason}"
    assert announced.keys() == expected.keys()
    assert {name: said for name, said in announced.items() if expected[name] not in said} == {}
    assert {command[2] for command in plan["todo"]} == needs().keys() - expected.keys()


def _end_as_measured(families: Sequence[ClassNeeds], folder: Path, image: str) -> None:
    running = [each.runs[0] for each in families if each.runs]
    failing = {}
    for each in families:
        for obstacle in [it for it in each.obstacles if it.kind != "time"][:1]:
            failing[obstacle.evals[0]] = obstacle
    layout = run([*running, *failing], folder, image=image)
    attempts = attempts_of(layout)
    seen = {name for name, it in failing.items() if it.seen}
    succeeded = {name for name in attempts if attempts[name].result is Result.SUCCESS}
    assert succeeded == {*running} | seen
    assert askers(layout) == seen
    said = {name: reason(attempts[name], layout) for name in failing if name not in seen}
    assert said == {name: (it.kind, it.why) for name, it in failing.items() if name not in seen}
