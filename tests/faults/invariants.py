"""What must hold at any moment of any run, whatever was killed, and what must hold at its end."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence

from runner.branch.progress_branch import OWN_REPOSITORY
from runner.engine.labels import Label
from runner.model import Attempt, Command, Result
from runner.records.progress import parse_progress, read_attempts
from tests.conftest import Place, engine_api
from tests.faults.events import Event, by_eval

# What a progress directory holds below `oaievalset`, for the model `m` and the eval set `s`.
STATE = {"m.s.progress.txt", "m.s.attempts.jsonl", "m.s.run.json", "m.s.lock"}


def check_now(place: Place, before: bytes = b"") -> bytes:
    """Check what the records say, while containers may run.

    Args:
        place: where the run is.
        before: what the progress file held at an earlier moment.

    Returns:
        What the progress file holds now.
    """
    layout = place.layout
    content = layout.progress.read_bytes() if layout.progress.exists() else b""
    assert content.startswith(before), f"a success was lost: {before!r} became {content!r}"
    finished = parse_progress(content, "progress")
    records = read_attempts(layout.attempts)
    assert not finished.damaged
    assert not finished.lines
    assert not records.damaged
    assert content.count(b"\n") == len(finished.commands), f"a doubled line: {content!r}"
    twice = [name for name, count in Counter(r.id for r in records.records).items() if count > 1]
    assert not twice, f"attempts that are on record twice: {twice}"
    successes = [record for record in records.records if record.result is Result.SUCCESS]
    again = [name for name, count in Counter(r.eval for r in successes).items() if count > 1]
    assert not again, f"evals that succeeded twice: {again}"
    known = {record.command for record in successes}
    # A runner that was killed between the two files leaves a container for the next one to record.
    missing = {*finished.commands} - known
    assert missing <= held_by_containers(place, missing), f"no attempt on record of {missing}"
    for record in successes:
        check_logs(place, record)
    return content[: content.rfind(b"\n") + 1]


def held_by_containers(place: Place, missing: set[Command]) -> set[Command]:
    """Commands that a container is there of; the engine is asked only if any record is missing."""
    if not missing:
        return set()
    filters = {"label": f"{Label.PROGRESS}={place.progress}"}
    listed = engine_api().containers(all=True, filters=filters)
    return {Command(json.loads(about["Labels"][Label.COMMAND])) for about in listed}


def check_logs(place: Place, record: Attempt) -> None:
    """Check that a success has its own log, whole, and its console log."""
    assert record.console_log, f"no console log of {record.eval}"
    assert (place.progress / record.console_log).is_file(), record.console_log
    (log,) = record.logs
    lines = [json.loads(line) for line in (place.progress / log).read_text().splitlines()]
    assert lines[0]["spec"]["eval_name"] == record.eval
    assert lines[-1]["final_report"] == record.final_report, f"{log} is not whole"


def check_end(place: Place, succeeding: Iterable[str]) -> None:
    """Check that all that can succeed has, and that nothing else is left."""
    check_now(place)
    assert sorted(place.finished()) == sorted(succeeding)
    passing = [str(path) for path in (place.folder / "tmp").iterdir()]
    left = [*place.leftovers(), *strangers(place), *passing]
    assert not left, f"left behind: {left}"


def strangers(place: Place) -> list[str]:
    """Files of a progress directory that no format has, or that no attempt knows."""
    logs = [log for record in place.records() for log in (*record.logs, record.console_log)]
    known = {*logs, *(f"oaievalset/{name}" for name in STATE)}
    paths = [path for path in place.progress.rglob("*") if not path.is_dir()]
    names = [str(path.relative_to(place.progress)) for path in paths]
    return sorted(
        name for name in names if name not in known and not name.startswith(OWN_REPOSITORY)
    )


def check_events(
    place: Place, events: Sequence[Event], *, once: bool, witnessed: bool = True
) -> None:
    """Check by what the engine said that nothing ran twice, and that nothing that ran is forgotten.

    Args:
        place: where the run was.
        events: all of the progress directory's containers.
        once: whether no attempt can have been spoiled, so that one start for each must have done.
        witnessed: whether the engine saw the end of every container.
    """
    records = {record.id: record for record in place.records()}
    deaths = {event.container: event.time for event in events if event.action == "die"}
    for name, starts in by_eval([*events], "start").items():
        ran = [records.get(start.attempt) for start in starts]
        assert None not in ran, f"an attempt of {name} is not on record: {starts}"
        results = [record.result for record in ran if record]
        assert Result.SUCCESS not in results[:-1], f"{name} was started after it had succeeded"
        for one, following in itertools.pairwise(starts):
            died = deaths.get(one.container)
            if died is None and not witnessed:
                continue
            early = died is None or following.time < died
            assert not early, f"{name} was started while it ran: {starts}"
        if once:
            assert len(starts) == 1, f"{name} was started {len(starts)} times: {results}"
