"""Which classes of upstream's registry can be imported in an image, and why not."""

import subprocess
from pathlib import Path

import msgspec

PROBE = Path(__file__).with_name("probe.py")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One class of the registry inside an image.

    Attributes:
        evals: resolved keys of its evals, in registry order.
        error: what importing its module raised, on one line; empty if nothing.
        starts_containers: whether it imports a client of the Docker engine.
    """

    evals: tuple[str, ...]
    error: str = ""
    starts_containers: bool = False


def classes_in(image: str) -> dict[str, Found]:
    """Import each class of the registry in one container of the image, with no network."""
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "--interactive", "--read-only", "--network=none"),
            *("--tmpfs=/tmp", "--env=HOME=/tmp", "--env=OPENAI_API_KEY=none", image),
            *("python", "-"),
        ],
        input=PROBE.read_bytes(),
        capture_output=True,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=dict[str, Found])
