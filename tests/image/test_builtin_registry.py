import time
from pathlib import Path

import docker
import pytest

from runner.image.image import Image, find_image, read_builtin_registry

ROOT = Path(__file__).parents[2]
KINDS = ("eval_sets", "evals", "completion_fns", "solvers", "modelgraded")
pytestmark = pytest.mark.docker


@pytest.mark.upstream
def test_the_builtin_registry_is_upstreams(api: docker.APIClient, eval_image: Image) -> None:
    """What is read from the image is what the package's own folders hold, within a second."""
    (package,) = (ROOT / ".venv-upstream" / "lib").glob("python3*/site-packages/evals")
    expected = {
        f"{kind}/{path.name}": path.read_text(encoding="utf-8")
        for kind in KINDS
        for path in (package / "registry" / kind).glob("*.yaml")
    }
    began = time.monotonic()
    assert read_builtin_registry(api, eval_image) == expected
    assert time.monotonic() - began < 2
    assert "eval_sets/test-basic.yaml" in expected


def test_an_image_without_evals_has_no_builtin_registry(
    api: docker.APIClient, local_base: str
) -> None:
    """A Python without openai/evals is no error."""
    assert read_builtin_registry(api, find_image(api, local_base)) == {}


def test_an_image_without_python_has_no_builtin_registry(
    api: docker.APIClient, pythonless: str
) -> None:
    """An image that runs something else is no error, and its container does not stay."""
    found = find_image(api, pythonless)
    assert read_builtin_registry(api, found) == {}
    assert api.containers(all=True, filters={"ancestor": found.id}) == []
