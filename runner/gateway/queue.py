import asyncio
import time
from collections import OrderedDict, deque
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runner.gateway.allowance import Allowance, Go, Refused, Reservation, Wait, Wish
from runner.gateway.messages import Config
from runner.gateway.rates import WINDOW
from runner.gateway.store import utc
from runner.records.answers import Usage
from runner.records.spending import read_sums


class Ticket:
    """A place in the queue; two are never equal, even if their wishes are."""

    __slots__ = ("wish",)

    def __init__(self, wish: Wish) -> None:
        self.wish = wish


class _Waiting:
    """How long all requests of one attempt have been in the queue."""

    def __init__(self) -> None:
        self._queued = self._under_way = 0
        self._since: float | None = None
        self._seconds = 0.0

    def change(self, now: float, *, queued: int = 0, under_way: int = 0) -> None:
        """Add to the numbers of requests in the queue and under way."""
        self._queued += queued
        self._under_way += under_way
        waits = self._queued > 0 and self._under_way == 0
        if waits and self._since is None:
            self._since = now
        elif not waits and self._since is not None:
            self._seconds += now - self._since
            self._since = None

    def seconds(self, now: float) -> float:
        """The seconds up to now."""
        return self._seconds + (0.0 if self._since is None else now - self._since)


# The requests of one attempt, in order; the requests of all attempts for one model, by turns.
_Tickets = OrderedDict[Ticket, None]
_Line = OrderedDict[str, _Tickets]


class Turns:
    """Requests that wait to be sent; attempts take turns.

    Requests for one model of one provider form a line, and lines take turns as well. So neither an
    eval with very many requests nor one that asks a busy model delays others. No request overtakes
    one that waits for something that all share, such as reserved money, so that a large request
    gets its turn.

    Attributes:
        until: when to call `decide` again at the latest; None for once a request has ended.
    """

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._lines: OrderedDict[tuple[str, str], _Line] = OrderedDict()
        self._waiting: dict[str, _Waiting] = {}
        self.until: float | None = None

    def __len__(self) -> int:
        return sum(len(tickets) for line in self._lines.values() for tickets in line.values())

    def add(self, wish: Wish, now: float, *, again: bool = False) -> Ticket:
        """Queue a request; `decide` says when it may be sent.

        Args:
            again: whether it was sent before, and is retried; then it is the attempt's next one.
        """
        ticket = Ticket(wish)
        line = self._lines.setdefault((wish.route, wish.model), OrderedDict())
        tickets = line.setdefault(wish.attempt, OrderedDict())
        tickets[ticket] = None
        if again:
            tickets.move_to_end(ticket, last=False)
        self._waiting.setdefault(wish.attempt, _Waiting()).change(now, queued=1)
        return ticket

    def remove(self, ticket: Ticket, now: float) -> None:
        """Take a request that nobody waits for any more out of the queue; KeyError if not in it."""
        self._take(ticket)
        if (waiting := self._waiting.get(ticket.wish.attempt)) is not None:
            waiting.change(now, queued=-1)

    def decide(self, now: float) -> list[tuple[Ticket, Go | Refused]]:
        """Decide about as many requests as possible, and take these out of the queue.

        Call it whenever one was added or has ended, or a provider has answered, and at `until`.
        """
        decided: list[tuple[Ticket, Go | Refused]] = []
        self.until = None
        pending = deque(self._lines)
        while pending:
            name = pending.popleft()
            attempt, tickets = next(iter(self._lines[name].items()))
            ticket = next(iter(tickets))
            decision = self._allowance.ask(ticket.wish, now)
            if not isinstance(decision, Wait):
                decided.append((ticket, decision))
                self._lines[name].move_to_end(attempt)
                self._lines.move_to_end(name)
                self._take(ticket)
                is_sent = isinstance(decision, Go)
                if (waiting := self._waiting.get(attempt)) is not None:
                    waiting.change(now, queued=-1, under_way=int(is_sent))
                if name in self._lines:
                    pending.append(name)
                continue
            if decision.until is not None:
                self.until = min(decision.until, self.until or decision.until)
            if decision.everyone:
                break
        return decided

    def ended(self, attempt: str, now: float) -> None:
        """A request that was sent has ended, in whatever way."""
        if (waiting := self._waiting.get(attempt)) is not None:
            waiting.change(now, under_way=-1)

    def waited(self, attempt: str, now: float) -> float:
        """Seconds in which all requests of an attempt were in the queue."""
        waiting = self._waiting.get(attempt)
        return 0.0 if waiting is None else waiting.seconds(now)

    def forget(self, attempt: str) -> None:
        """Forget an attempt that is over; it has no request in the queue."""
        self._waiting.pop(attempt, None)

    def _take(self, ticket: Ticket) -> None:
        """Take a request out, and its attempt and its line if they have no other."""
        name = (ticket.wish.route, ticket.wish.model)
        line = self._lines[name]
        tickets = line[ticket.wish.attempt]
        del tickets[ticket]
        if not tickets:
            del line[ticket.wish.attempt]
        if not line:
            del self._lines[name]


class Queue:
    """Requests wait here until budget and rate allow them to be sent.

    Args:
        allowance: the one that all of them share.
    """

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self._turns = Turns(allowance)
        self._waiting: dict[Ticket, asyncio.Future[Go | Refused | None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, wish: Wish, *, again: bool = False) -> Go | Refused | None:
        """Wait for a request's turn; end a `Go` with `ended`.

        Args:
            again: whether it was sent before, and is retried.

        Returns:
            None if another queue has replaced this one.
        """
        ticket = self._turns.add(wish, time.monotonic(), again=again)
        decided: asyncio.Future[Go | Refused | None] = asyncio.get_running_loop().create_future()
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
