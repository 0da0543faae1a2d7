import msgspec

NOT_RUN = "not run yet"


class Success(msgspec.Struct, frozen=True, kw_only=True):
    """The newest attempt of a job that succeeded.

    Attributes:
        attempt: its id.
        number: which attempt of the job it was, counted from 1.
        host: that it ran on.
        ended_at: UTC, RFC 3339.
    """

    attempt: str
    number: int
    host: str
    ended_at: str


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What is on record of a job's attempts.

    Attributes:
        ended: how many there are.
        failed: how many failed.
        lost: how many were lost.
        last: the reason of the latest that did not succeed, one line.
        success: the newest one; None when there is none.
    """

    ended: int = 0
    failed: int = 0
    lost: int = 0
    last: str = ""
    success: Success | None = None


def why_to_do(past: Past | None, otherwise: str = "") -> str:
    """Say why a job is to do, on one line.

    Args:
        past: its attempts.
        otherwise: with which other arguments the same eval is finished.
    """
    parts = [*_taken_out(past), *_spoiled(past)] or [NOT_RUN]
    return "; ".join([*parts, *([otherwise] if otherwise else [])])


def how_done(past: Past | None) -> str:
    """Say when, where and in which attempt a job was finished, on one line."""
    if past is None or past.success is None:
        return "finished; no attempt of it is on record"
    return _finished(past.success)


def _finished(success: Success) -> str:
    return (
        f"finished {success.ended_at} on {success.host}, attempt {success.number}: "
        f"{success.attempt}"
    )


def _taken_out(past: Past | None) -> list[str]:
    if past is None or past.success is None:
        return []
    return [f"{_finished(past.success)}, but its line was taken out of the progress file"]


def _spoiled(past: Past | None) -> list[str]:
    if past is None or not past.failed + past.lost:
        return []
    counts = [
        f"{word} {'once' if count == 1 else f'{count} times'}"
        for word, count in (("failed", past.failed), ("lost", past.lost))
        if count
    ]
    return [f"{' and '.join(counts)}, last: {past.last or 'no reason on record'}"]
