import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runner.gateway.allowance import Allowance, Go, Reservation, Unaffordable, Wish
from runner.gateway.messages import Config
from runner.gateway.rates import WINDOW
from runner.gateway.store import utc
from runner.gateway.turns import Ticket, Turns
from runner.records.answers import Usage
from runner.records.spending import read_sums


class Queue:
    """Requests wait here until budget and rate allow them to be sent.

    Args:
        allowance: the one that all of them share.
    """

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self._turns = Turns(allowance)
        self._waiting: dict[Ticket, asyncio.Future[Go | Unaffordable | None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, wish: Wish, *, again: bool = False) -> Go | Unaffordable | None:
        """Wait for a request's turn; end a `Go` with `ended`.

        Args:
            again: whether it was sent before, and is retried.

        Returns:
            None if another queue has replaced this one.
        """
        ticket = self._turns.add(wish, time.monotonic(), again=again)
        decided: asyncio.Future[Go | Unaffordable | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._waiting[ticket] = decided
        self._decide()
        try:
            return await decided
        except asyncio.CancelledError:
            if self._waiting.pop(ticket, None) is not None:
                with suppress(KeyError):
                    self._turns.remove(ticket, time.monotonic())
            elif isinstance(decision := decided.result(), Go):
                self.allowance.cancel(decision.reservation, time.monotonic())
                self.ended(decision.reservation)
            raise

    def ended(self, reservation: Reservation) -> None:
        """A request that was sent has ended, and was settled or cancelled."""
        self._turns.ended(reservation.wish.attempt, time.monotonic())
        self._decide()

    def waited(self, attempt: str) -> float:
        """Seconds in which all requests of an attempt were in the queue."""
        return self._turns.waited(attempt, time.monotonic())

    def release(self) -> None:
        """Send all requests that wait to the queue that replaces this one."""
        now = time.monotonic()
        for ticket, decided in self._waiting.items():
            self._turns.remove(ticket, now)
            decided.set_result(None)
        self._waiting.clear()

    def forget(self, attempt: str) -> None:
        """Forget an attempt that is over."""
        self._turns.forget(attempt)

    def _decide(self) -> None:
        now = time.monotonic()
        for ticket, decision in self._turns.decide(now):
            self._waiting.pop(ticket).set_result(decision)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._turns.until is not None:
            # A little later, so that the moment has surely come by the clock that decides.
            pause = max(0.0, self._turns.until - now) + 0.001
            self._timer = asyncio.get_running_loop().call_later(pause, self._decide)


def queue_of(config: Config) -> Queue:
    """A queue with the limits of a run, less what requests on record have used."""
    limits, allowance = config.limits, config.limits.allowance()
    if limits.budget is None and not (limits.rpm or limits.tpm):
        return Queue(allowance)
    begin = datetime.now(UTC) - timedelta(seconds=WINDOW)
    sent: list[tuple[str, str, int]] = []
    for path in Path(config.answers).glob("*.jsonl"):
        found = read_sums(path, since=utc(begin))
        sent += found.recent
        if limits.budget is not None and limits.budget.unit == "usd":
            allowance.was_paid("", Usage(), usd=found.totals.usd or 0.0)
            spent = found.unpriced
        else:
            spent = found.spent
        for model, usage in spent.items():
            allowance.was_paid(model, usage)
        for model, reserved in found.perhaps:
            # If no price was known, all tokens count as those that cost most.
            allowance.was_paid(model, Usage(output=reserved.tokens), usd=reserved.usd)
    started = time.monotonic() - WINDOW
    for at, model, tokens in sorted(sent):
        with suppress(ValueError):
            after = (datetime.fromisoformat(at) - begin).total_seconds()
            allowance.was_sent(model, tokens, started + after)
    return Queue(allowance)
