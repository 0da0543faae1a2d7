"""Two mistakes that what is checked in test_acceptance.py must not miss."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from docker.errors import NotFound

from tests.conftest import Place, until
from tests.hosts.lab import Lab
from tests.hosts.trial import EVALS, IMPATIENT, Trial, check
from tests.plan.test_placement_simulated import MISTAKES

pytestmark = [
    pytest.mark.docker,
    pytest.mark.tools,
    pytest.mark.skipif(os.geteuid() != 0, reason="hosts with engines of their own need root"),
]

ELSEWHERE, LATE = MISTAKES

# Makes a mistake of a part of placement, before anything else knows it.
MISTAKEN = (
    "from pathlib import Path; from runner.plan import placement; "
    "text = Path(placement.__file__).read_text(); assert text.count({0!r}) == 1; "
    "exec(compile(text.replace({0!r}, {1!r}), placement.__file__, 'exec'), vars(placement)); "
)

# Seconds in which a run gets to its end, or to what must not be, once all evals may end.
PATIENCE = 25


@contextmanager
def trial_of(mistake: str, lab: Lab, folder: Path, place: Place) -> Iterator[Trial]:
    """A run of six evals, two on each host at once, that makes a mistake, if any."""
    program = IMPATIENT
    if mistake:
        old, new, _ = MISTAKES[mistake]
        program = MISTAKEN.format(old, new) + program
    made = Trial(lab, folder, place, EVALS[:6], program=program)
    try:
        yield made
    finally:
        print(made.said())
        made.now.process.kill()
        made.now.process.wait(60)


def recorded_twice(trial: Trial) -> bool:
    """Whether an attempt is on record twice, after which a run may not come to an end."""
    ids = [each.id for each in trial.place.records()]
    return len(ids) > len(set(ids))


def finish(trial: Trial) -> None:
    """Let all evals end, and wait for the run, if it comes to an end."""
    end = time.monotonic() + PATIENCE
    while trial.now.process.poll() is None and time.monotonic() < end:
        if recorded_twice(trial):
            break
        for host in (trial.a, trial.b):
            with suppress(NotFound):  # a container that is just being removed
                trial.let_go(host, 2)
        time.sleep(0.2)


@pytest.mark.parametrize("mistake", ["", ELSEWHERE])
def test_that_evals_start_elsewhere_too_soon_is_noticed(
    hosts: Lab, place: Place, tmp_path: Path, mistake: str
) -> None:
    """By the journals: while the accepted attempt runs, another one starts."""
    with trial_of(mistake, hosts, tmp_path, place) as trial:
        a, b = trial.a, trial.b
        trial.running(a, 2)
        trial.running(b, 2)
        hosts.cut(a)
        until(lambda: "lab-a is away" in trial.said(), seconds=60)
        with trial.nothing_starts(2):
            trial.let_go(b, 2)
        hosts.join(a)
        until(lambda: "lab-a is back" in trial.said(), seconds=60)
        trial.finish(a, 2)
        finish(trial)
        journals = trial.finish_journals()
        if mistake:
            with pytest.raises(AssertionError, match="starts again: "):
                check(trial, journals)
        else:
            check(trial, journals)


def test_that_late_outcomes_are_accepted_is_noticed(
    hosts: Lab, place: Place, tmp_path: Path
) -> None:
    """What a host has that was away for too long, and whose evals run elsewhere by then.

    That nothing is noticed where this mistake is not made is shown by `cut_link_for_more` of
    test_acceptance.py, in which the same happens.
    """
    with trial_of(LATE, hosts, tmp_path, place) as trial:
        a, b = trial.a, trial.b
        before = set(trial.running(a, 2))
        trial.running(b, 2)
        hosts.cut(a)
        trial.let_go(a, 1)
        until(lambda: {each.id for each in trial.lost()} == before, seconds=60)
        trial.finish(b, 2)
        trial.running(b, 2)
        hosts.join(a)
        until(lambda: "lab-a is back" in trial.said(), seconds=60)
        finish(trial)
        with pytest.raises(AssertionError, match="on record twice: "):
            check(trial, trial.finish_journals())
