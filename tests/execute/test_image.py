import io
import json
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from runner.errors import EnvironmentFault
from runner.execute import base, build, builtin_registry, debian_base, image, probe
from runner.execute.engine import Engine
from runner.execute.recipe import Recipe

ROOT = Path(__file__).parents[2]
KINDS = ("eval_sets", "evals", "completion_fns", "solvers", "modelgraded")

# Nothing listens there, so that no image registry can be reached.
UNREACHABLE = "127.0.0.1:1/evalset/none:1"

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


@pytest.fixture(scope="module")
def api() -> docker.APIClient:
    return Engine().api


@pytest.fixture(scope="module")
def eval_image(api: docker.APIClient) -> image.Image:
    return image.find(api, image.DEFAULT_IMAGE)


@pytest.fixture(scope="module")
def local_base(eval_image: image.Image) -> str:
    """The base that the eval image was built on."""
    return eval_image.labels[build.BASE_NAME]


@pytest.fixture
def tag(api: docker.APIClient, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for an image that is gone after the test."""
    name = f"evalset/test:{re.sub(r'[^a-z0-9]', '-', request.node.name)}"
    yield name
    with suppress(ImageNotFound):
        api.remove_image(name, force=True)


@pytest.fixture
def pythonless(api: docker.APIClient, tag: str) -> str:
    """An image of one file, which is not a program."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    repository, _, version = tag.partition(":")
    api.import_image_from_data(content.getvalue(), repository=repository, tag=version)
    return tag


@pytest.fixture
def small_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that builds in a second: one wheel, no program run."""
    _change_recipe(monkeypatch, SMALL_DOCKERFILE)


def _change_recipe(monkeypatch: pytest.MonkeyPatch, dockerfile: bytes) -> None:
    found = re.search(rb"^sniffio==(?:.*\\\n)+.*\n", Recipe().lock, re.MULTILINE)
    assert found is not None
    lock = found[0]

    class SmallRecipe(Recipe):
        def __init__(self) -> None:
            super().__init__()
            self.dockerfile = dockerfile
            self.lock = lock

    monkeypatch.setattr(build, "Recipe", SmallRecipe)


@pytest.fixture(scope="module")
def loopback_base(api: docker.APIClient, image_registry: str, local_base: str) -> Iterator[str]:
    """The base, in an image registry and no longer at the engine."""
    repository = f"{image_registry}/evalset/base"
    api.tag(local_base, repository, tag="1")
    for line in api.push(repository, tag="1", stream=True, decode=True):
        assert "error" not in line, line
    name = f"{repository}:1"
    api.remove_image(name)
    yield name
    with suppress(ImageNotFound):
        api.remove_image(name, force=True)


def test_the_eval_image_carries_what_it_is_made_of(eval_image: image.Image) -> None:
    """Labels give the versions, the lock's hash, and a fingerprint that others can compute."""
    recipe, labels = Recipe(), eval_image.labels
    assert labels["evalset.version.evals"] == "3.0.1.post1"
    assert labels["evalset.version.python"].startswith("3.")
    assert labels["evalset.version.runner"]
    assert labels[build.LOCK] == recipe.lock_hash
    assert eval_image.fingerprint == recipe.fingerprint(labels[build.BASE], labels[build.MACHINE])
    assert image.own_fingerprint(Engine().api, eval_image) == eval_image.fingerprint


def test_the_default_image_is_named_after_the_locked_evals() -> None:
    """A new lock needs a new name."""
    assert image.DEFAULT_IMAGE.partition(":")[2] == Recipe().evals_version


@pytest.mark.parametrize("part", ["dockerfile", "lock", "image_hook"])
def test_each_part_of_the_recipe_counts_in_the_fingerprint(part: str) -> None:
    """A change of the Dockerfile, the lock or the yaml hook shows."""
    recipe, changed = Recipe(), Recipe()
    setattr(changed, part, getattr(changed, part) + b"\n")
    assert recipe.fingerprint("base", "x86_64") != changed.fingerprint("base", "x86_64")
    assert recipe.fingerprint("base", "x86_64") != recipe.fingerprint("other", "x86_64")
    assert recipe.fingerprint("base", "x86_64") != recipe.fingerprint("base", "aarch64")


def test_an_image_that_is_up_to_date_is_not_built_again(
    api: docker.APIClient, eval_image: image.Image
) -> None:
    """The second build asks no image registry, fetches nothing, and returns at once."""
    told: list[str] = []
    began = time.monotonic()
    assert build.build(api, tell=told.append) == eval_image
    assert time.monotonic() - began < 1
    assert len(told) == 1
    assert "up to date" in told[0]


def test_the_eval_image_runs_evals_on_a_read_only_root(eval_image: image.Image) -> None:
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
        image.find(api, "evalset/evals:none")


def test_an_image_that_nobody_has_is_one_clear_line(api: docker.APIClient) -> None:
    """A name that cannot be pulled is an environment fault that names it."""
    with pytest.raises(EnvironmentFault, match="cannot be pulled") as raised:
        image.find(api, UNREACHABLE)
    assert UNREACHABLE in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_image_that_is_elsewhere_is_pulled(api: docker.APIClient, loopback_base: str) -> None:
    """An image that is missing here is pulled once, and known by its repository digest."""
    with suppress(ImageNotFound):
        api.remove_image(loopback_base)
    found = image.find(api, loopback_base)
    assert found.digest is not None
    assert found.digest.startswith(loopback_base.rpartition(":")[0] + "@sha256:")


def test_a_base_is_pulled_where_an_image_registry_gives_it(
    api: docker.APIClient, loopback_base: str
) -> None:
    """The first route: the Dockerfile's own base is pulled, and identified by its digest."""
    with suppress(ImageNotFound):
        api.remove_image(loopback_base)
    told: list[str] = []
    got = base.prepare(api, wanted=None, default=loopback_base, fresh=False, tell=told.append)
    assert got.name == loopback_base
    assert got.identity.startswith("sha256:")
    assert told == [f"base image: pulling {loopback_base}"]


def test_a_base_that_is_here_is_not_pulled(api: docker.APIClient, local_base: str) -> None:
    """An image registry is asked only for what is missing."""
    told: list[str] = []
    base.prepare(api, wanted=local_base, default=UNREACHABLE, fresh=False, tell=told.append)
    assert told == [f"base image: {local_base}, which the engine has"]


def test_a_base_is_made_from_debian_packages_where_no_image_registry_is(
    api: docker.APIClient, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    """The second route: mmdebstrap makes it, the list of packages identifies it, and it is kept."""
    monkeypatch.setattr(debian_base, "DEBIAN_BASE", tag)
    told: list[str] = []
    made = base.prepare(api, wanted=None, default=UNREACHABLE, fresh=False, tell=told.append)
    assert made.name == tag
    assert made.identity.startswith("packages:")
    assert made.platform.python == "3.11"
    assert "Debian's packages instead, for no image registry can be reached" in "\n".join(told)

    told.clear()
    again = base.prepare(api, wanted=None, default=UNREACHABLE, fresh=False, tell=told.append)
    assert again == made
    assert "made here earlier" in told[-1]


def test_a_base_that_was_asked_for_is_never_replaced(api: docker.APIClient) -> None:
    """A base that the user names is that one or an error."""
    with pytest.raises(EnvironmentFault, match="cannot be pulled") as raised:
        build.build(api, tag="evalset/test:none", base_image=UNREACHABLE, tell=lambda _: None)
    assert UNREACHABLE in str(raised.value)


def test_a_base_without_python_is_refused(api: docker.APIClient, pythonless: str) -> None:
    """What cannot be built on is refused before anything is fetched."""
    with pytest.raises(EnvironmentFault, match="has no working python3"):
        base.prepare(api, wanted=pythonless, default="", fresh=False, tell=lambda _: None)


@pytest.mark.usefixtures("small_recipe")
def test_a_build_on_a_pulled_base_is_whole(
    api: docker.APIClient, loopback_base: str, tag: str
) -> None:
    """The build takes a pulled base and the host's wheels, and leaves nothing behind."""
    built = build.build(api, tag=tag, base_image=loopback_base, tell=lambda _: None)
    assert built.labels[build.BASE].startswith("sha256:")
    assert built.labels[build.BASE_NAME] == loopback_base
    listing = probe.ask(
        api,
        built.id,
        ["python3", "-c", "import os, json; print(json.dumps(os.listdir('/wheels')))"],
    )
    assert [name.partition("-")[0] for name in json.loads(listing.stdout)] == ["sniffio"]
    assert api.images(filters={"dangling": True, "label": build.STAGE}) == []

    told: list[str] = []
    assert build.build(api, tag=tag, base_image=loopback_base, tell=told.append) == built
    assert "up to date" in "\n".join(told)

    anew = build.build(api, tag=tag, base_image=loopback_base, tell=told.append, rebuild=True)
    assert (anew.fingerprint, image.look(api, built.id)) == (built.fingerprint, None)


def test_a_step_that_fails_is_told_with_its_last_words(
    api: docker.APIClient, monkeypatch: pytest.MonkeyPatch, local_base: str, tag: str
) -> None:
    """A failing build is one line: the step, and what it said last."""
    _change_recipe(monkeypatch, FAILING_DOCKERFILE)
    with pytest.raises(EnvironmentFault, match="RUN echo first words") as raised:
        build.build(api, tag=tag, base_image=local_base, tell=lambda _: None)
    assert "first words | last words" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.upstream
def test_the_builtin_registry_is_upstreams(api: docker.APIClient, eval_image: image.Image) -> None:
    """What is read from the image is what the package's own folders hold, within a second."""
    (package,) = (ROOT / ".venv-upstream" / "lib").glob("python3*/site-packages/evals")
    expected = {
        f"{kind}/{path.name}": path.read_text(encoding="utf-8")
        for kind in KINDS
        for path in (package / "registry" / kind).glob("*.yaml")
    }
    began = time.monotonic()
    assert builtin_registry.read_builtin_registry(api, eval_image) == expected
    assert time.monotonic() - began < 2
    assert "eval_sets/test-basic.yaml" in expected


def test_an_image_without_evals_has_no_builtin_registry(
    api: docker.APIClient, local_base: str
) -> None:
    """A Python without openai/evals is no error."""
    assert builtin_registry.read_builtin_registry(api, image.find(api, local_base)) == {}


def test_an_image_without_python_has_no_builtin_registry(
    api: docker.APIClient, pythonless: str
) -> None:
    """An image that runs something else is no error, and its container does not stay."""
    found = image.find(api, pythonless)
    assert builtin_registry.read_builtin_registry(api, found) == {}
    assert api.containers(all=True, filters={"ancestor": found.id}) == []
