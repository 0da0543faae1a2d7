"""Whose request is sent next; without input or output. Times are arguments."""

from collections import OrderedDict, deque

from runner.gateway.allowance import Allowance, Go, Unaffordable, Wait, Wish


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

    def decide(self, now: float) -> list[tuple[Ticket, Go | Unaffordable]]:
        """Decide about as many requests as possible, and take these out of the queue.

        Call it whenever one was added or has ended, or a provider has answered, and at `until`.
        """
        decided: list[tuple[Ticket, Go | Unaffordable]] = []
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
