import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from runner.gateway.requests import Asked, error_body
from runner.gateway.store import Store
from runner.records.answers import Answer, Usage
from runner.records.answers_file import Kept


class Cost(msgspec.Struct, frozen=True):
    """What answers cost: tokens, and dollars where prices are known."""

    tokens: int = 0
    usd: float | None = None

    @classmethod
    def of(cls, answer: Answer) -> "Cost":
        """What one answer cost."""
        usage = answer.usage or Usage()
        return cls(usage.input + usage.output, answer.usd)


def sum_of(costs: Iterable[Cost]) -> Cost:
    """The sum of costs; its dollars are None if none of them has any."""
    all_ = list(costs)
    known = [cost.usd for cost in all_ if cost.usd is not None]
    return Cost(sum(cost.tokens for cost in all_), sum(known) if known else None)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a client is told.

    Attributes:
        kept: the answer on record; None for one that is not kept.
        stopped: the kind of reason why the attempt cannot succeed any more; empty if it can.
        text: the reason.
    """

    status: int
    body: bytes
    headers: dict[str, str] = {}
    kept: Kept | None = None
    cost: Cost = Cost()
    stopped: str = ""
    text: str = ""

    @classmethod
    def final(cls, status: int, text: str, kind: str, *, stopped: str = "") -> "Reply":
        """An error after which no client retries."""
        headers = {"content-type": "application/json", "x-should-retry": "false"}
        body = error_body(text, kind)
        return cls(status=status, body=body, headers=headers, stopped=stopped, text=text)


class Flight:
    """A request under way to its provider; it is finished even if nobody waits for it.

    Attributes:
        attempt: the one that waits for it; empty once that has gone.
        pieces: of a stream, as they arrive, except for the last; None ends them.
        head: status and headers of a stream that has begun.
        reply: set once all of it has arrived and is on record.
        sent: whether it has been sent, so that it may be billed.
        task: the one that sends it.
    """

    def __init__(self, asked: Asked, store: Store, attempt: str, sample: str) -> None:
        loop = asyncio.get_running_loop()
        self.asked = asked
        self.key = asked.key
        self.store = store
        self.attempt = attempt
        self.sample = sample
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.head: asyncio.Future[Reply] = loop.create_future()
        self.reply: asyncio.Future[Reply] = loop.create_future()
        self.sent = False
        self.task: asyncio.Task[None] | None = None


class GoneError(Exception):
    """Nobody waits for a request that has not been sent."""


class Failure(Exception):
    """A request has failed.

    Attributes:
        status: of the provider's answer; 0 if there was none.
        billed: whether it was billed; None if nobody knows.
        reply: what the client is told, unless the gateway retries.
        again: whether the gateway retries.
        headers: of the provider's answer.
        reason: one line, for the record.
    """

    def __init__(
        self,
        reply: Reply,
        *,
        status: int,
        billed: bool | None,
        again: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.reason = (
            reply.text or f"the provider answered {status}"
        )  # without the provider's own words
        super().__init__(self.reason)
        self.reply = reply
        self.status = status
        self.billed = billed
        self.again = again
        self.headers = headers or {}
