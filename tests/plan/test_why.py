import pytest

from runner.plan.plan import NOT_RUN, Past, Success, how_done, why_to_do

SUCCESS = Success(attempt="x1", number=3, host="laptop", ended_at="2025-01-01T00:00:00Z")
FINISHED = "finished 2025-01-01T00:00:00Z on laptop, attempt 3: x1"


@pytest.mark.parametrize(
    ("past", "said"),
    [
        (None, NOT_RUN),
        (Past(), NOT_RUN),
        (Past(failed=1, last="exited with status 1"), "failed once, last: exited with status 1"),
        (Past(lost=2, last="the engine went away"), "lost 2 times, last: the engine went away"),
        (Past(failed=1, lost=1, last="x"), "failed once and lost once, last: x"),
        (Past(failed=1), "failed once, last: no reason on record"),
        (
            Past(success=SUCCESS),
            f"{FINISHED}, but its line was taken out of the progress file",
        ),
    ],
)
def test_an_eval_that_is_to_do_says_why(past: Past | None, said: str) -> None:
    """From its attempts alone."""
    assert why_to_do(past) == said


def test_other_arguments_come_last() -> None:
    """They explain, but are not what happened to this command."""
    said = why_to_do(Past(failed=1, last="x"), "finished without arguments")
    assert said == "failed once, last: x; finished without arguments"


def test_a_done_eval_says_when_and_where() -> None:
    """Or that nobody knows, as with upstream's own progress files."""
    assert how_done(Past(success=SUCCESS)) == FINISHED
    assert how_done(None) == "finished; no attempt of it is on record"
    assert how_done(Past(failed=1)) == "finished; no attempt of it is on record"
