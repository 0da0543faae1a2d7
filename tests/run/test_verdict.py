import msgspec
import pytest

from runner.model import Attempt, Fault, Result
from runner.records.replay import Missing, Replay, Unmatched
from runner.records.sameness import Difference, Sameness
from runner.run.verify_verdict import MOST_MISSING, Case, Verdict, Verified, decide
from tests.outcomes import failure, job, success

EVAL = job()
ANSWERS = ("1", "2")
CASE = Case(
    command=EVAL.command,
    attempt=success(EVAL, final_report={"accuracy": 1.0, "boostrap_std": 0.1}, image="sha256:a"),
    replay=Replay(answers=ANSWERS),
)
AGAIN = success(EVAL, "again", image="sha256:a")
FAILED = failure(EVAL, "again")
LOST = failure(EVAL, "again", result=Result.LOST, fault=Fault.ENVIRONMENT, reason="was ended")
NEW = Unmatched(missing=(Missing(sample="e.1", request="POST /x", asked_before=False),))
DIFFERS = Sameness(differences=(Difference(where="w", expected="1", found="2"),))
NOTHING = Unmatched()


def decided(
    again: Attempt = AGAIN,
    unmatched: Unmatched = NOTHING,
    sameness: Sameness = Sameness(),  # noqa: B008 - frozen
    case: Case = CASE,
    *,
    offline: bool = False,
) -> Verified:
    return decide(case, again, unmatched, sameness, last="KeyError", offline=offline)


def damaged() -> Case:
    return msgspec.structs.replace(CASE, replay=Replay(answers=ANSWERS, damaged=(3, 5, 7, 9)))


def test_an_eval_that_differs_in_nothing_is_the_same() -> None:
    """The figures that do not count are named."""
    found = decided(sameness=Sameness(samples=4))
    assert (found.verdict, found.reason) == (Verdict.SAME, "")
    assert (found.samples, found.answers, found.random) == (4, 2, ("boostrap_std",))


@pytest.mark.parametrize(
    ("given", "verdict", "reason"),
    [
        ((AGAIN, NOTHING, DIFFERS), Verdict.DIFFERS, ""),
        ((AGAIN, NEW, Sameness()), Verdict.DIFFERS, ""),
        ((FAILED, NEW, Sameness()), Verdict.DIFFERS, "exited with status 1"),
        ((LOST, NEW, DIFFERS), Verdict.CANNOT_TELL, "was ended"),
        (
            (AGAIN, NOTHING, Sameness(samples_left_out=1)),
            Verdict.CANNOT_TELL,
            "its log has more samples than are compared",
        ),
    ],
)
def test_a_rerun_shows_something_else(
    given: tuple[Attempt, Unmatched, Sameness], verdict: Verdict, reason: str
) -> None:
    """What is the environment's fault proves nothing."""
    again, unmatched, sameness = given
    found = decided(again, unmatched, sameness)
    assert (found.verdict, found.reason) == (verdict, reason)


def test_a_failure_counts_only_where_the_network_cannot_be_why() -> None:
    """What was run with one may need it."""
    found = decided(FAILED)
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.reason == "it does not run without a network: exited with status 1: KeyError"
    found = decided(FAILED, offline=True)
    assert (found.verdict, found.reason) == (Verdict.DIFFERS, "exited with status 1: KeyError")


def test_a_damaged_record_proves_nothing_where_an_answer_is_missing() -> None:
    """It may be on the line that cannot be read; without a missing answer it does not matter."""
    found = decided(unmatched=NEW, case=damaged())
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.reason == "its answers file is damaged: line 3, 5, 7, ..."
    assert decided(case=damaged()).verdict is Verdict.SAME
    assert decided(sameness=DIFFERS, case=damaged()).verdict is Verdict.DIFFERS


def test_requests_without_an_answer_are_named_once_each_and_counted() -> None:
    """With the sample where that is known, and whether it was asked before."""
    missing = [
        Missing(sample="e.1", request="POST /x", asked_before=False),
        Missing(sample="e.1", request="POST /x", asked_before=False),
        Missing(sample="", request="POST /y", asked_before=True),
        *(Missing(sample="", request=f"POST /{number}", asked_before=False) for number in range(4)),
    ]
    found = decided(unmatched=Unmatched(missing=tuple(missing)))
    assert found.missing[:2] == (
        "sample e.1 asks what was never asked: POST /x",
        "asks once more than is on record: POST /y",
    )
    assert (len(found.missing), found.more_missing) == (MOST_MISSING, 6 - MOST_MISSING)


def test_answers_that_nobody_asked_for_are_noted() -> None:
    """They do not change the verdict."""
    found = decided(unmatched=Unmatched(left=1))
    assert found.verdict is Verdict.SAME
    assert found.notes == ("1 of 2 answers on record were not asked for",)


def test_what_may_explain_a_difference_is_noted_with_it() -> None:
    """Another build of the image, and answers that samples may have swapped."""
    case = msgspec.structs.replace(CASE, replay=Replay(answers=ANSWERS, unclear=2))
    again = success(EVAL, "again", image="sha256:b")
    image, unclear = decided(again, sameness=DIFFERS, case=case).notes
    assert image.startswith("it was run in the image sha256:a, and again in sha256:b")
    assert unclear.startswith("2 answers are to equal requests")
    assert decided(again, case=case).notes == ()
