import io
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from unittest.mock import MagicMock

from runner.model import Attempt
from runner.plan.plan import Plan
from runner.records.layout import Layout
from runner.report.display import PlainConsole
from runner.run.loop import Loop
from runner.run.record import Recorder
from runner.run.schedule import Ended, Event, Idle
from tests.outcomes import job, success


def ended(outcome: Attempt) -> Ended:
    return Ended(outcome, again=False, recorded=Future())


def test_what_a_killed_run_has_half_recorded_is_not_counted_twice(tmp_path: Path) -> None:
    """It is in the progress file, so the plan has it as done; its record is made whole."""
    layout = Layout(root=tmp_path, model="m", eval_set="s")
    half, other = job("half.v0"), job("other.v0")
    with Recorder(layout, run="r") as recorder:
        recorder.record([success(half, "before")])
    layout.attempts.unlink()
    plan = Plan(
        whole=(half, other),
        jobs=(half, other),
        done=(half,),
        todo=(other,),
        why={},
        finished=frozenset(),
    )
    events: SimpleQueue[Event] = SimpleQueue()
    for event in (ended(success(half, "before")), ended(success(other, "now")), Idle()):
        events.put(event)
    prepared = MagicMock()
    prepared.options.max_failures = 0
    schedule = MagicMock(events=events, budget=None, out_of_time=False)
    out = io.StringIO()
    display = PlainConsole(out)
    display.begin(total=2, done=1, todo=1)
    disk = MagicMock()
    disk.short.return_value = None
    with Recorder(layout, run="r2") as recorder:
        loop = Loop(prepared, display, schedule, recorder, disk=disk, snapshots=None)
        assert loop.until_idle(plan).exit_code == 0
        assert recorder.complete("before")
    finished = [line for line in out.getvalue().splitlines() if line.startswith("finished")]
    assert [line.partition("  [")[2] for line in finished] == ["2/2]"]
