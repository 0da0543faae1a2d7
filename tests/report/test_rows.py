from hypothesis import given
from hypothesis import strategies as st

from runner.model import Attempt
from runner.records.progress import Finished
from runner.records.state import EvalState
from tests.outcomes import failure, job, success

NAMES = ("x", "y", "z")
COMMANDS = [job(name).command for name in NAMES]

outcomes = st.lists(
    st.tuples(st.sampled_from(NAMES), st.booleans(), st.integers(0, 99)), max_size=6
)


def record(name: str, good: bool, number: int) -> Attempt:  # noqa: FBT001 - as drawn
    outcome = (success if good else failure)(job(name), attempt=str(number))
    return msgspec.structs.replace(outcome, run="r", host="h")


def states(rows: list[EvalState]) -> list[tuple[str, str, int]]:
    return [(row.eval, row.state, row.attempts) for row in rows]


@given(first=outcomes, then=outcomes, fresh=st.booleans())
def test_rows_made_again_are_those_made_at_once(
    first: list[tuple[str, bool, int]], then: list[tuple[str, bool, int]], *, fresh: bool
) -> None:
    """Whether records were added to or replaced, a table that was kept is no other."""
    kept = Rows()
    for drawn in (first, then if fresh else [*first, *then]):
        records = tuple(record(*each) for each in drawn)
        commands = dict.fromkeys(one.command for one in records if one.exit_code == 0)
        finished = Finished(commands=tuple(commands))
        again = kept.of(COMMANDS, finished=finished, records=records)
        assert states(again) == states(rows_of(COMMANDS, finished=finished, records=records))


def test_a_running_command_says_so_unless_it_is_done() -> None:
    """What runs again after a failure shows nothing of that."""
    records = (record("x", good=False, number=1),)
    finished = Finished(commands=(job("y").command,))
    rows = rows_of(COMMANDS, finished=finished, records=records, running=COMMANDS[:2])
    assert [row.state for row in rows] == ["running", "done", "to do"]
    assert rows[0].reason == ""
