import pytest

from runner.model import Fault, Result
from tests.conftest import Place, impatient

pytestmark = pytest.mark.docker


def test_an_image_without_the_command_is_said(place: Place) -> None:
    """One line names image, command and options; exit 3; nothing is left in the way."""
    place.registry("succeed.a", "succeed.b")
    ended = place.run("--run-command", "/bin/no-such-thing")
    assert ended.returncode == 3
    assert ended.stderr == (
        f"Error: image {place.image} has no command '/bin/no-such-thing' that can run; "
        "choose another --image or --run-command\n"
    )
    assert place.leftovers() == []
    assert place.run().returncode == 0


def test_a_missing_image_is_said(place: Place) -> None:
    """An image that is neither here nor to be had: one line, exit 3, nothing written."""
    place.registry("succeed.a")
    ended = place.run("--image", "127.0.0.1:1/none:1")
    assert ended.returncode == 3
    assert ended.stderr.startswith("Error: the image 127.0.0.1:1/none:1 is not here")
    assert ended.stderr.count("\n") == 1
    assert not place.progress.exists()


def test_a_missing_network_is_said(place: Place) -> None:
    """One line says how to create it; exit 3; nothing is left behind."""
    place.registry("succeed.a")
    ended = place.run("--network", "no-such-network")
    assert ended.returncode == 3
    assert ended.stderr == (
        "Error: the engine has no network 'no-such-network'; create it "
        "(`docker network create no-such-network`)\n"
    )
    assert place.leftovers() == []


def test_without_an_engine_the_run_says_what_to_do(place: Place) -> None:
    """No engine at the address: one line with the address and the cure, exit 3."""
    place.registry("succeed.a")
    socket = place.folder / "no.sock"
    ended = place.run(DOCKER_HOST=f"unix://{socket}")
    assert ended.returncode == 3
    assert str(socket) in ended.stderr
    assert "scripts/engine" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_an_environments_fault_is_tried_again_and_exits_with_3(place: Place) -> None:
    """What the engine refuses is no failure of the eval; it is attempted within `--retries`."""
    place.registry("succeed.a")
    ended = impatient(place).run("--network", "container:gone", "--retries", "2")
    assert ended.returncode == 3
    assert [(each.result, each.fault) for each in place.records()] == [
        (Result.LOST, Fault.ENVIRONMENT)
    ] * 3
    assert "the Docker engine refused: " in ended.stdout
    assert ended.stdout.count("to be retried") == 2
