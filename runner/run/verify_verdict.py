"""What a rerun of an eval shows. Pure: it touches neither disk nor engine."""

import enum
from collections.abc import Iterator, Sequence

import msgspec

from runner.model import Attempt, Command, Fault, Result
from runner.records.replay import Missing, Replay, Unmatched
from runner.records.sameness import Difference, Sameness, random_figures

# Requests without an answer on record that are named; further ones are counted.
MOST_MISSING = 3

# Damaged lines that are named.
MOST_LINES = 3


class Verdict(enum.StrEnum):
    """Whether a rerun gives what is on record; tables and JSON have these values."""

    SAME = "same"
    DIFFERS = "differs"
    CANNOT_TELL = "cannot tell"


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one finished eval.

    Attributes:
        attempt: id of the one that succeeded, whose record is checked.
        reason: why nobody can tell, or how the rerun failed; empty if it did not.
        differences: the first ones.
        more: how many more figures and samples differ.
        missing: requests of the rerun that have no answer on record, each in words.
        more_missing: how many more there are.
        random: names of figures that are drawn at random, and so do not count.
        random_differing: names of random figures that differ.
        notes: what else a reader should know, one line each.
        samples: how many were compared.
        answers: how many are on record.
    """

    eval: str
    command: Command
    attempt: str = ""
    verdict: Verdict
    reason: str = ""
    differences: tuple[Difference, ...] = ()
    more: int = 0
    missing: tuple[str, ...] = ()
    more_missing: int = 0
    random: tuple[str, ...] = ()
    random_differing: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    samples: int = 0
    answers: int = 0


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A finished eval that can be run again, according to its files."""

    command: Command
    attempt: Attempt
    replay: Replay

    @property
    def eval(self) -> str:
        """The resolved key."""
        return self.command.eval

    def verified(self, verdict: Verdict, reason: str = "") -> Verified:
        """A verdict on it."""
        return Verified(
            eval=self.eval,
            command=self.command,
            attempt=self.attempt.id,
            verdict=verdict,
            reason=reason,
            answers=len(self.replay.answers),
        )


def decide(
    case: Case,
    again: Attempt,
    unmatched: Unmatched,
    sameness: Sameness,
    *,
    last: str,
    offline: bool,
) -> Verified:
    """Say what a rerun shows.

    Args:
        again: the attempt of the rerun.
        unmatched: what it asked, or did not ask, in addition.
        sameness: how both compare.
        last: the last line that the rerun printed.
        offline: whether the record is of a run without a network, too.
    """
    missing = tuple(dict.fromkeys(map(in_words, unmatched.missing)))
    verdict, reason = _verdict(case, again, sameness, last, asks=bool(missing), offline=offline)
    differs = verdict is Verdict.DIFFERS
    return msgspec.structs.replace(
        case.verified(verdict, reason),
        differences=sameness.differences,
        more=sameness.more,
        missing=missing[:MOST_MISSING],
        more_missing=len(missing[MOST_MISSING:]),
        random=tuple(random_figures(case.attempt.final_report)),
        random_differing=sameness.random,
        notes=tuple(_notes(case, again, unmatched, differs=differs)),
        samples=sameness.samples,
    )


def _verdict(
    case: Case, again: Attempt, sameness: Sameness, last: str, *, asks: bool, offline: bool
) -> tuple[Verdict, str]:
    """The verdict, and its reason."""
    failed = again.result is not Result.SUCCESS
    # The last line may only be about the request that had no answer, which says more.
    ended = ": ".join(filter(None, (again.reason, "" if asks else last))) if failed else ""
    damaged = case.replay.damaged
    if failed and again.fault is Fault.ENVIRONMENT:
        return Verdict.CANNOT_TELL, ended
    if failed and not asks and not offline:
        return Verdict.CANNOT_TELL, f"it does not run without a network: {ended}"
    if damaged and (asks or failed):
        return Verdict.CANNOT_TELL, f"its answers file is damaged: {_lines(damaged)}"
    if asks or failed or sameness.differences:
        return Verdict.DIFFERS, ended
    if sameness.samples_left_out:
        return Verdict.CANNOT_TELL, "its log has more samples than are compared"
    return Verdict.SAME, ""


def _lines(numbers: Sequence[int]) -> str:
    more = ", ..." if numbers[MOST_LINES:] else ""
    return f"line {', '.join(map(str, numbers[:MOST_LINES]))}{more}"


def in_words(missing: Missing) -> str:
    """A request without an answer on record, as part of a line."""
    who = f"sample {missing.sample} " if missing.sample else ""
    what = (
        "asks once more than is on record" if missing.asked_before else "asks what was never asked"
    )
    return f"{who}{what}: {missing.request}"


def _notes(case: Case, again: Attempt, unmatched: Unmatched, *, differs: bool) -> Iterator[str]:
    replay = case.replay
    if unmatched.left:
        yield f"{unmatched.left} of {len(replay.answers)} answers on record were not asked for"
    if differs and case.attempt.image not in {"", again.image}:
        yield (
            f"it was run in the image {case.attempt.image}, and again in {again.image}, which are "
            "the same if both were built alike"
        )
    if differs and replay.unclear:
        yield (
            f"{replay.unclear} answers are to equal requests, and the record does not say which "
            "sample each is for, so that samples may have got one another's"
        )
