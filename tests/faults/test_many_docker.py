from collections.abc import Callable

import pytest

from tests.amount import amount
from tests.conftest import Place
from tests.faults.many import run_many

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3600)]

AT_ONCE = 16
MEMORY = 120 * 10**6

# What may be open besides two connections of each worker: output, records, passing sockets.
FEW = 30


def test_many_evals_take_no_more_than_few(places: Callable[[], Place]) -> None:
    """Memory, file descriptors and threads are flat, and nothing is left over."""
    many = run_many(places(), amount(120, 2000), at_once=AT_ONCE)
    early, late = many.part(2, 6), many.part(5, 6)
    assert many.peak < MEMORY
    assert late.memory < 1.2 * early.memory
    workers = 2 * AT_ONCE
    assert max(sample.threads for sample in many.samples) < workers + FEW
    assert max(sample.descriptors for sample in many.samples) < 2 * workers + FEW
    assert many.left.threads == ["MainThread"]
    # The main thread has a connection to the engine for as long as it lives.
    assert len([each for each in many.left.descriptors if "socket" in each]) <= 1
