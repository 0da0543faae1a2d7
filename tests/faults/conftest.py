import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Place, engine_api

SEED = "EVALSET_TEST_SEED"


@pytest.fixture
def decide(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> random.Random:
    """Where a test's random decisions come from; the seed is printed, and can be given."""
    seed = os.environ.get(SEED) or str(time.time_ns() % 1_000_000)
    name = request.node.name
    with capsys.disabled():
        print(f"\n{name}: {SEED}={seed}", flush=True)
    return random.Random(f"{seed} {name}")  # noqa: S311 - decides moments, hides nothing


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
        for container in each.containers():
            engine_api().remove_container(container, force=True, v=True)


def numbered(count: int, *behaviours: str) -> list[str]:
    """So many evals that take turns in what they do; the number tells them apart."""
    return [f"{behaviours[number % len(behaviours)]}.{number:03}" for number in range(count)]
