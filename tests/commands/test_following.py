"""Following what an eval prints on a host, over connections that break."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.commands import logs
from runner.commands.logs import Following
from runner.errors import EnvironmentFault
from runner.hosts.leftovers import Left
from runner.hosts.ssh import Unreachable, Unusable
from runner.model import Command, Job, Result
from runner.records.layout import Layout
from runner.records.run_lock import run_lock
from runner.run.record import Recorder
from tests.outcomes import SETTINGS, failure

BROKEN = Unreachable("lab cannot be reached: it is off", "try `ssh lab`")
LEFT = Left(attempt="1", host="lab", command=Command(("oaieval", "m", "e")))


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what each connection to the host gives before it ends, or breaks with an error."""

    def give(*each: tuple[list[bytes], Unusable | None]) -> None:
        coming = iter(each)

        def console_on(*_: object, **__: object) -> Iterator[bytes]:
            parts, error = next(coming)
            yield from parts
            if error is not None:
                raise error

        monkeypatch.setattr(logs, "console_on", console_on)
        monkeypatch.setattr(logs, "PAUSE", 0)

    return give


def test_what_was_printed_before_is_not_printed_again(
    tmp_path: Path, connections: Callable[..., None]
) -> None:
    """However it is cut into pieces; that the host is away is said once."""
    layout = Layout(root=tmp_path, model="m", eval_set="s")
    connections(
        ([b"one ", b"two"], BROKEN),
        ([], BROKEN),
        ([b"o", b"ne two three ", b"four"], None),
    )
    told: list[str] = []
    with run_lock(layout.lock):
        assert b"".join(Following(layout, told.append).parts(LEFT)) == b"one two three four"
    assert told == [
        "lab cannot be reached: it is off; waits until it is back, or the eval runs elsewhere"
    ]


@pytest.mark.parametrize(
    ("live", "error"),
    [(False, BROKEN), (True, Unusable("lab refuses this user's keys", "add one"))],
    ids=["no run", "refused"],
)
def test_nobody_waits_for_a_host_in_vain(
    tmp_path: Path, connections: Callable[..., None], *, live: bool, error: Unusable
) -> None:
    """Without a run the eval goes nowhere else, and a key does not come by itself."""
    layout = Layout(root=tmp_path, model="m", eval_set="s")
    connections(([b"one"], error))
    parts = Following(layout, print).parts(LEFT)
    assert next(parts) == b"one"
    if live:
        with run_lock(layout.lock), pytest.raises(EnvironmentFault, match="refuses"):
            next(parts)
    else:
        with pytest.raises(EnvironmentFault, match="cannot be reached"):
            next(parts)


def test_that_an_eval_was_lost_and_runs_nowhere_is_said(
    tmp_path: Path, connections: Callable[..., None]
) -> None:
    """Its run has ended, because it was stopping."""
    layout = Layout(root=tmp_path, model="m", eval_set="s")
    of = Job(command=LEFT.command, argv=LEFT.command, settings=SETTINGS)
    with Recorder(layout, run="r1") as recorder:
        recorder.record([failure(of, result=Result.LOST, host="lab")])
    connections(([b"one"], BROKEN))
    told: list[str] = []
    assert b"".join(Following(layout, told.append).parts(LEFT)) == b"one"
    assert told == ["e was lost on lab, and no run is under way"]
