import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import SEED, Place, remove_containers


@pytest.fixture
def decide(request: pytest.FixtureRequest) -> random.Random:
    """Where a test's random decisions come from; a failure shows the seed, which can be given."""
    print(f"{SEED}={os.environ[SEED]}")
    return random.Random(f"{os.environ[SEED]} {request.node.name}")  # noqa: S311 - hides nothing


@pytest.fixture
def places(tmp_path: Path, cache: Path, test_image: str) -> Iterator[Callable[[], Place]]:
    """Makes a place of its own for each set of evals; whatever happens, no container stays."""
    made: list[Place] = []

    def make() -> Place:
        made.append(Place(tmp_path / f"set-{len(made)}", cache, test_image))
        made[-1].folder.mkdir()
        return made[-1]

    yield make
    for each in made:
        remove_containers(each.containers())


def numbered(count: int, *behaviours: str) -> list[str]:
    """So many evals that take turns in what they do; the number tells them apart."""
    return [f"{behaviours[number % len(behaviours)]}.{number:03}" for number in range(count)]
