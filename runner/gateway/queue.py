import asyncio
import time
from contextlib import suppress

from runner.gateway.allowance import Allowance, Go, Refused, Reservation, Wish
from runner.gateway.turns import Ticket, Turns


class Queue:
    """Requests wait here until their budget and their rate allow them to be sent.

    Args:
        allowance: that all of them share.
    """

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self._turns = Turns(allowance)
        self._waiting: dict[Ticket, asyncio.Future[Go | Refused]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, wish: Wish, *, again: bool = False) -> Go | Refused:
        """Wait for a request's turn; a Go is to be ended with `ended`.

        Args:
            again: whether it was sent before, and came back.
        """
        ticket = self._turns.add(wish, time.monotonic(), again=again)
        decided: asyncio.Future[Go | Refused] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = decided
        self._decide()
        try:
            return await decided
        except asyncio.CancelledError:
            if self._waiting.pop(ticket, None) is not None:
                with suppress(KeyError):
                    self._turns.remove(ticket, time.monotonic())
            elif isinstance(verdict := decided.result(), Go):
                self.allowance.cancel(verdict.reservation, time.monotonic())
                self.ended(verdict.reservation)
            raise

    def ended(self, reservation: Reservation) -> None:
        """A request that was sent has come to its end, and was settled or cancelled."""
        self._turns.ended(reservation.wish.attempt, time.monotonic())
        self._decide()

    def waited(self, attempt: str) -> float:
        """Seconds that an attempt has waited with all of its requests in the queue."""
        return self._turns.waited(attempt, time.monotonic())

    def forget(self, attempt: str) -> None:
        """An attempt is over."""
        self._turns.forget(attempt)

    def _decide(self) -> None:
        now = time.monotonic()
        for ticket, verdict in self._turns.decide(now):
            self._waiting.pop(ticket).set_result(verdict)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._turns.until is not None:
            # A little later, so that the moment has surely come by the clock that is asked then.
            pause = max(0.0, self._turns.until - now) + 0.001
            self._timer = asyncio.get_running_loop().call_later(pause, self._decide)
