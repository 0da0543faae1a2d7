import json
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from runner.engine.engine import Engine
from runner.engine.image_probe import ask
from runner.errors import EnvironmentFault
from runner.image import build, image
from runner.image.build import BASE_NAME, LOCK, MACHINE, STAGE, Recipe, build_extra, build_image
from runner.image.image import BASE, Image, find_image, look_up_image, own_fingerprint
from runner.options import DEFAULT_IMAGE
from tests.image.test_base import UNREACHABLE
from tests.images import build_image as build_test_image

ROOT = Path(__file__).parents[2]
SMALL_DOCKERFILE = b"""ARG BASE_IMAGE=unused
FROM ${BASE_IMAGE} AS venv
LABEL evalset.stage=venv
COPY wheels/ /wheels/
RUN [ "$(ls /sys/class/net)" = lo ]
FROM ${BASE_IMAGE}
COPY --from=venv /wheels /wheels
"""
FAILING_DOCKERFILE = b"""ARG BASE_IMAGE=unused
FROM ${BASE_IMAGE}
RUN echo first words; echo last words; exit 7
"""
pytestmark = pytest.mark.docker


@pytest.fixture
def small_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that builds in a second: one wheel, no program run."""
    _change_recipe(monkeypatch, SMALL_DOCKERFILE)


def _change_recipe(monkeypatch: pytest.MonkeyPatch, dockerfile: bytes) -> None:
    found = re.search(rb"^sniffio==(?:.*\\\n)+.*\n", Recipe().lock, re.MULTILINE)
    assert found is not None
    lock = found[0]

    class SmallRecipe(Recipe):
        def __init__(self, extra: str | None = None) -> None:
            super().__init__(extra)
            self.dockerfile = dockerfile
            self.lock = lock
            self.machine_locks = {}
            self.data_lock = b""

    monkeypatch.setattr(build, "Recipe", SmallRecipe)


def test_the_eval_image_carries_what_it_is_made_of(eval_image: Image) -> None:
    """Labels give the versions, the lock's hash, and a fingerprint that others can compute."""
    recipe, labels = Recipe(), eval_image.labels
    assert labels["evalset.version.evals"] == "3.0.1.post1"
    assert labels["evalset.version.python"].startswith("3.")
    assert labels["evalset.version.runner"]
    assert labels[LOCK] == recipe.lock_hash
    assert eval_image.fingerprint == recipe.fingerprint(labels[BASE], labels[MACHINE])
    assert own_fingerprint(Engine().api, eval_image) == eval_image.fingerprint


def test_the_default_image_is_named_after_the_locked_evals() -> None:
    """A new lock needs a new name."""
    assert DEFAULT_IMAGE.partition(":")[2] == Recipe().evals_version


@pytest.mark.parametrize("part", ["dockerfile", "lock", "data_lock", *Recipe().programs])
def test_each_part_of_the_recipe_counts_in_the_fingerprint(part: str) -> None:
    """A change of the Dockerfile, of a lock or of what runs in the image shows."""
    recipe, changed = Recipe(), Recipe()
    if part in changed.programs:
        changed.programs[part] += b"\n"
    else:
        setattr(changed, part, getattr(changed, part) + b"\n")
    assert recipe.fingerprint("base", "x86_64") != changed.fingerprint("base", "x86_64")
    assert recipe.fingerprint("base", "x86_64") != recipe.fingerprint("other", "x86_64")
    assert recipe.fingerprint("base", "x86_64") != recipe.fingerprint("base", "aarch64")


def test_what_has_a_wheel_for_one_machine_is_locked_for_it_alone() -> None:
    """An image on another architecture is built without it, and its fingerprint knows."""
    recipe, changed = Recipe("ml"), Recipe("ml")
    assert b"\nbox2d==" in b"\n" + recipe.lock_for("x86_64")
    assert recipe.lock_for("aarch64") == recipe.lock
    changed.machine_locks["x86_64"] += b"\n"
    assert recipe.fingerprint("base", "x86_64") != changed.fingerprint("base", "x86_64")
    assert recipe.fingerprint("base", "aarch64") == changed.fingerprint("base", "aarch64")


def test_an_image_that_is_up_to_date_is_not_built_again(
    api: docker.APIClient, eval_image: Image
) -> None:
    """The second build asks no image registry, fetches nothing, and returns at once."""
    told: list[str] = []
    began = time.monotonic()
    assert build_image(api, tell=told.append) == eval_image
    assert time.monotonic() - began < 1
    assert len(told) == 1
    assert "up to date" in told[0]


def test_an_image_that_does_not_answer_is_no_engine_that_is_away(
    api: docker.APIClient, eval_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says so, after a while."""
    monkeypatch.setattr("runner.engine.image_probe.TIME_LIMIT", 1)
    with pytest.raises(EnvironmentFault, match=r"^the image sha256:.* did not say within 1 s "):
        ask(api, eval_image.id, ["sleep", "60"])


def test_strings_have_the_same_hash_in_each_run(eval_image: Image) -> None:
    """An eval that asks for the items of a set asks for them in the same order again."""
    run = ("docker", "run", "--rm", "--network=none", eval_image.id)
    hashes = {
        subprocess.run(
            [*run, "python3", "-c", "print(hash('a'))"], capture_output=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(hashes) == 1


def test_the_eval_image_runs_evals_on_a_read_only_root(eval_image: Image) -> None:
    """Python finds bytecode for all that oaieval imports, and compiles nothing anew."""
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "--read-only", "--network=none", "--tmpfs=/tmp"),
            *("--env=OPENAI_API_KEY=none", "--user=1234:1234", eval_image.id),
            *("python3", "-v", "-c", "import evals.cli.oaieval"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.findall(r"code object from '(\S+\.py)'", done.stderr) == []
    assert "matches /opt/evals" in done.stderr


def test_the_default_image_is_built_and_never_pulled(
    api: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is missing, the message says how to build it."""
    monkeypatch.setattr(image, "DEFAULT_IMAGE", "evalset/evals:none")
    with pytest.raises(EnvironmentFault, match=r"is not here; build it with `evalset image build`"):
        find_image(api, "evalset/evals:none")


def test_an_image_that_nobody_has_is_one_clear_line(api: docker.APIClient) -> None:
    """A name that cannot be pulled is an environment fault that names it."""
    with pytest.raises(EnvironmentFault, match="cannot be pulled") as raised:
        find_image(api, UNREACHABLE)
    assert UNREACHABLE in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_image_that_is_elsewhere_is_pulled(api: docker.APIClient, loopback_base: str) -> None:
    """An image that is missing here is pulled once, and known by its repository digest."""
    with suppress(ImageNotFound):
        api.remove_image(loopback_base)
    found = find_image(api, loopback_base)
    assert found.digest is not None
    assert found.digest.startswith(loopback_base.rpartition(":")[0] + "@sha256:")


def test_an_image_of_several_repositories_is_known_by_the_one_it_is_asked_for(
    api: docker.APIClient, loopback_base: str
) -> None:
    """Another host pulls it from where this one was told to, and from nowhere else."""
    first = find_image(api, loopback_base)
    for other in ("0/base", "z/base"):
        repository = f"{loopback_base.partition('/')[0]}/{other}"
        api.tag(first.id, repository, tag="1")
        for line in api.push(repository, tag="1", stream=True, decode=True):
            assert "error" not in line, line
    try:
        for other in ("evalset/base", "0/base", "z/base"):
            repository = f"{loopback_base.partition('/')[0]}/{other}"
            found = find_image(api, f"{repository}:1")
            assert found.id == first.id
            assert found.digest is not None
            assert found.digest.startswith(f"{repository}@sha256:")
            assert find_image(api, found.digest).digest == found.digest
    finally:
        for other in ("0/base", "z/base"):
            api.remove_image(f"{loopback_base.partition('/')[0]}/{other}:1")


@pytest.mark.usefixtures("small_recipe")
def test_a_build_on_a_pulled_base_is_whole(
    api: docker.APIClient, loopback_base: str, tag: str
) -> None:
    """The build takes a pulled base and the host's wheels, and leaves nothing behind."""
    built = build_image(api, tag=tag, base_image=loopback_base, tell=lambda _: None)
    assert built.labels[BASE].startswith("sha256:")
    assert built.labels[BASE_NAME] == loopback_base
    listing = ask(
        api,
        built.id,
        ["python3", "-c", "import os, json; print(json.dumps(os.listdir('/wheels')))"],
    )
    assert [name.partition("-")[0] for name in json.loads(listing.stdout)] == ["sniffio"]
    assert api.images(filters={"dangling": True, "label": STAGE}) == []

    told: list[str] = []
    assert build_image(api, tag=tag, base_image=loopback_base, tell=told.append) == built
    assert "up to date" in "\n".join(told)

    anew = build_image(api, tag=tag, base_image=loopback_base, tell=told.append, rebuild=True)
    assert (anew.fingerprint, look_up_image(api, built.id)) == (built.fingerprint, None)


@pytest.mark.usefixtures("small_recipe")
def test_an_extra_image_follows_the_eval_image(
    api: docker.APIClient, local_base: str, tag: str
) -> None:
    """It is built on the eval image, and anew once that has changed, but not otherwise."""
    told: list[str] = []

    def build(*, rebuilt_on: bytes = b"") -> tuple[Image, Image]:
        if rebuilt_on:
            dockerfile = SMALL_DOCKERFILE.replace(b"FROM ${BASE_IMAGE}\n", rebuilt_on)
            _change_recipe(monkeypatch, dockerfile)
        below = build_image(api, tag=tag, base_image=local_base, tell=told.append)
        return below, build_extra(api, "ml", eval_image=tag, tell=told.append)

    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            below, extra = build()
            assert extra.name == f"{tag}-ml"
            assert (extra.labels[BASE_NAME], extra.labels[BASE]) == (tag, below.fingerprint)
            assert extra.labels["evalset.version.evals"] == Recipe().evals_version
            assert own_fingerprint(api, extra) == extra.fingerprint != below.fingerprint
            told.clear()
            assert build() == (below, extra)
            assert [line.partition(" is ")[2][:10] for line in told] == ["up to date"] * 2
            above, another = build(rebuilt_on=b"FROM ${BASE_IMAGE}\nENV ANOTHER=1\n")
            assert above.fingerprint != below.fingerprint
            assert another.labels[BASE] == above.fingerprint
            assert look_up_image(api, extra.id) is None
    finally:
        with suppress(ImageNotFound):
            api.remove_image(f"{tag}-ml", force=True)


def test_an_extra_image_that_is_missing_is_said_how_to_build(
    api: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never pulled."""
    monkeypatch.setattr(image, "extra_image", lambda extra: f"evalset/evals:none-{extra}")
    with pytest.raises(EnvironmentFault, match=r"build it with `evalset image build --extra ml`"):
        find_image(api, "evalset/evals:none-ml")


@pytest.mark.usefixtures("small_recipe")
def test_a_build_leaves_the_stages_of_others_alone(
    api: docker.APIClient, local_base: str, tag: str
) -> None:
    """Another build, which has not come to its last step, continues from its stage."""
    dockerfile = f"FROM {local_base}\nLABEL {STAGE}=venv\nRUN true\n"
    other = build_test_image(api, tag, dockerfile, anew=True)
    build_image(api, tag=tag, base_image=local_base, tell=lambda _: None)
    stages = [about["Id"] for about in api.images(filters={"dangling": True, "label": STAGE})]
    api.remove_image(other)
    assert other in stages


def test_a_step_that_fails_is_told_with_its_last_words(
    api: docker.APIClient, monkeypatch: pytest.MonkeyPatch, local_base: str, tag: str
) -> None:
    """A failing build is one line: the step, and what it said last."""
    _change_recipe(monkeypatch, FAILING_DOCKERFILE)
    with pytest.raises(EnvironmentFault, match="RUN echo first words") as raised:
        build_image(api, tag=tag, base_image=local_base, tell=lambda _: None)
    assert "first words | last words" in str(raised.value)
    assert "\n" not in str(raised.value)
