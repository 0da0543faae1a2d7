import os
import time
from pathlib import Path

import pytest

from runner.plan import placement
from runner.plan.placement import Placement
from tests.conftest import SEED
from tests.plan.fleet_parts import Size, Violation
from tests.plan.fleet_world import World

# Hosts so bad that most evals meet something.
ROUGH = {"hosts": 12, "evals": 300, "link": 150, "power": 600, "restart": 200}

# Pieces of the source, and what a mistake makes of them.
LEFT = """
        if host is not None and host.up:
            self._fleet.leave(host, now)
"""
AND_AGAIN = """
            for each in host.attempts.values():
                self._queue.add(each.job.key)
"""
MISTAKES = {
    "starts elsewhere what a host has that is away for a moment": (
        LEFT,
        LEFT + AND_AGAIN,
        "starts again while",
    ),
    "accepts late outcomes": (
        "return attempt in self._on_record",
        "return False",
        "is accepted twice|is recorded twice|after its success",
    ),
}


def world(number: int, make: type[Placement] = Placement) -> World:
    """A small one; it follows from the session's seed and the number."""
    return World(f"{os.environ[SEED]} {number}", Size(**ROUGH), make)


def mutant(old: str, new: str) -> type[Placement]:
    """The class with a piece of its source replaced."""
    source = Path(placement.__file__).read_text()
    assert source.count(old) == 1, old
    names: dict[str, object] = {"__name__": "mutant"}
    exec(compile(source.replace(old, new), "mutant", "exec"), names)  # noqa: S102 - it is our own
    made = names["Placement"]
    assert isinstance(made, type)
    return made


def test_whatever_goes_wrong_each_eval_is_accepted_once() -> None:
    """In many small worlds; all checks are in the world."""
    disturbed: set[str] = set()
    for number in range(100):
        made = world(number)
        made.run()
        disturbed |= made.disturbed.keys()
    assert disturbed >= {"link", "power", "wiped", "runner", "late", "doubled"}


@pytest.mark.slow
def test_a_thousand_hosts_do_a_hundred_thousand_evals() -> None:
    """In under a minute of one core."""
    began = time.process_time()
    large = World(os.environ[SEED], Size(hosts=1000, evals=100_000))
    large.run()
    print(dict(large.disturbed))
    assert len(large.accepted) == 100_000
    assert time.process_time() - began < 60


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_worlds_notice_a_mistake(mistake: str) -> None:
    """Which runs, and which outcomes are on record."""
    old, new, noticed = MISTAKES[mistake]
    make = mutant(old, new)

    def run() -> None:
        for number in range(20):
            world(number, make).run()

    with pytest.raises(Violation, match=noticed):
        run()
