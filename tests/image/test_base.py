from contextlib import suppress

import docker
import pytest
from docker.errors import ImageNotFound

from runner.errors import EnvironmentFault
from runner.image import base
from runner.image.base import prepare_base
from runner.image.build import build_image

# Nothing listens there, so that no image registry can be reached.
UNREACHABLE = "127.0.0.1:1/evalset/none:1"
pytestmark = pytest.mark.docker


def test_a_base_is_pulled_where_an_image_registry_gives_it(
    api: docker.APIClient, loopback_base: str
) -> None:
    """The first route: the Dockerfile's own base is pulled, and identified by its digest."""
    with suppress(ImageNotFound):
        api.remove_image(loopback_base)
    told: list[str] = []
    got = prepare_base(api, wanted=None, default=loopback_base, fresh=False, tell=told.append)
    assert got.name == loopback_base
    assert got.identity.startswith("sha256:")
    assert told == [f"base image: pulling {loopback_base}"]


def test_a_base_that_is_here_is_not_pulled(api: docker.APIClient, local_base: str) -> None:
    """An image registry is asked only for what is missing."""
    told: list[str] = []
    prepare_base(api, wanted=local_base, default=UNREACHABLE, fresh=False, tell=told.append)
    assert told == [f"base image: {local_base}, which the engine has"]


def test_a_base_is_made_from_debian_packages_where_no_image_registry_is(
    api: docker.APIClient, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    """The second route: mmdebstrap makes it, the list of packages identifies it, and it is kept."""
    monkeypatch.setattr(base, "DEBIAN_BASE", tag)
    told: list[str] = []
    made = prepare_base(api, wanted=None, default=UNREACHABLE, fresh=False, tell=told.append)
    assert made.name == tag
    assert made.identity.startswith("packages:")
    assert made.platform.python == "3.11"
    assert "Debian's packages instead, because no image registry can be reached" in "\n".join(told)

    told.clear()
    again = prepare_base(api, wanted=None, default=UNREACHABLE, fresh=False, tell=told.append)
    assert again == made
    assert "made here earlier" in told[-1]


def test_a_base_that_was_asked_for_is_never_replaced(api: docker.APIClient) -> None:
    """A base that the user names is that one or an error."""
    with pytest.raises(EnvironmentFault, match="cannot be pulled") as raised:
        build_image(api, tag="evalset/test:none", base_image=UNREACHABLE, tell=lambda _: None)
    assert UNREACHABLE in str(raised.value)


def test_a_base_without_python_is_refused(api: docker.APIClient, pythonless: str) -> None:
    """What cannot be built on is refused before anything is fetched."""
    with pytest.raises(EnvironmentFault, match="has no working python3"):
        prepare_base(api, wanted=pythonless, default="", fresh=False, tell=lambda _: None)
