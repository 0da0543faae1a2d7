"""An attempt as the gateway serves it: its requests under way, what it may hold, what it is sent.

A client is kept waiting as long as its answer takes.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from runner.gateway.messages import Account, Admission
from runner.gateway.requests import Asked, RefusedRequest, error_body
from runner.gateway.store import Store
from runner.model import Problem, Spending
from runner.records.answers import Answer, Kept, Usage

# Requests of one attempt that may be under way, including those whose clients have gone.
MOST_AT_ONCE = 1024

# Bytes of a request's body, and of all bodies of one attempt that are in memory. A body counts
# while it is read, and again while it is sent.
MOST_OF_A_BODY = 32 * 2**20
MOST_HELD = 512 * 2**20

# Answers to one request that may be broken off in a row. Each is perhaps paid, and clients would
# ask again for ever.
MOST_BROKEN = 5

# Seconds until a client that waits is told that it still may.
REASSURE = 45.0

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


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
        stopped: why the attempt cannot succeed any more; None if it can.
        text: the same, for people.
        perhaps_paid: whether there is no answer, and nobody knows whether it was billed.
    """

    status: int
    body: bytes
    headers: dict[str, str] = {}
    kept: Kept | None = None
    cost: Cost = Cost()
    stopped: Problem | None = None
    text: str = ""
    perhaps_paid: bool = False

    @classmethod
    def final(cls, status: int, text: str, kind: str, *, stopped: Problem | None = None) -> "Reply":
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


class AskingAttempt:
    """An attempt that may send requests, and what it has done so far.

    Attributes:
        held: bytes of its requests' bodies that are in memory.
    """

    def __init__(
        self,
        admission: Admission,
        store: Store,
        listening: asyncio.Server,
        web_server: web.Server,
    ) -> None:
        self.id = admission.attempt
        self.store = store
        self.held = 0
        self._listening = listening
        self._web = web_server
        self.room = asyncio.Semaphore(MOST_AT_ONCE)
        self.requests = 0
        self.replayed = 0
        self._paid: list[Cost] = []
        self._saved: list[Cost] = []
        self.refused: list[str] = []
        self._broken: Counter[tuple[str, str]] = Counter()
        self.kind, self.stopped = store.stopped.get(self.id, (Problem.OTHER, ""))

    def check(self, asked: Asked, sample: str) -> None:
        """Refuse to send a request whose answers were broken off again and again."""
        if self._broken[asked.key, sample] >= MOST_BROKEN:
            raise RefusedRequest(
                424,
                f"{asked.route} broke off {MOST_BROKEN} answers in a row to one request to "
                f"{asked.model}, all perhaps paid; ask it why, then run the same command again",
            )

    def landed(self, flight: Flight) -> None:
        """Note whether the answer to a request was broken off."""
        reply, one = flight.reply.result(), (flight.key, flight.sample)
        if reply.perhaps_paid:
            self._broken[one] += 1
        elif reply.kept is not None:
            self._broken.pop(one, None)

    def paid(self, reply: Reply) -> None:
        """Count an answer that its provider gave."""
        self._paid = [sum_of([*self._paid, reply.cost])]
        if reply.stopped and not self.stopped:
            self.stopped, self.kind = reply.text, reply.stopped

    def saved(self, cost: Cost) -> None:
        """Count an answer on record that it was given."""
        self.replayed += 1
        self._saved = [sum_of([*self._saved, cost])]

    def close(self) -> None:
        """Stop serving it; a later attempt that asks the same gets the answers to what it sent."""
        self._listening.close()
        for connection in self._web.connections:
            connection.force_close()

    def account(self, waited: float) -> Account:
        """Everything that it has done; `waited` is in seconds."""
        paid, saved = sum_of(self._paid), sum_of(self._saved)
        return Account(
            spending=Spending(
                requests=self.requests,
                replayed=self.replayed,
                tokens=paid.tokens,
                saved_tokens=saved.tokens,
                usd=paid.usd,
                saved_usd=saved.usd,
            ),
            refused=self.refused,
            stopped=self.stopped,
            kind=self.kind,
            waited=waited,
        )


class TooMany(asyncio.Protocol):
    """Closes a connection of an attempt that has as many as it may."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()


@asynccontextmanager
async def body_of(request: web.BaseRequest, attempt: AskingAttempt) -> AsyncIterator[bytes]:
    """The body of a request, which counts as held while the `with` block lasts."""
    pieces = []
    size = 0
    try:
        async for piece in request.content.iter_any():
            size += len(piece)
            attempt.held += len(piece)
            if size > MOST_OF_A_BODY:
                raise RefusedRequest(413, f"the body is larger than {MOST_OF_A_BODY >> 20} MiB")
            if attempt.held > MOST_HELD:
                raise RefusedRequest(
                    413, f"the bodies at once are larger than {MOST_HELD >> 20} MiB"
                )
            pieces.append(piece)
        yield b"".join(pieces)
    finally:
        attempt.held -= size


async def waited_for(
    wanted: "asyncio.Future[Reply]", request: web.BaseRequest, *others: "asyncio.Future[Reply]"
) -> Reply:
    """Wait for a reply, and keep the client waiting, however long its turn takes to come."""
    while True:
        done, _ = await asyncio.wait(
            (wanted, *others), timeout=REASSURE, return_when=asyncio.FIRST_COMPLETED
        )
        if done:
            return next(iter(done)).result()
        if request.transport is not None:
            request.transport.write(CONTINUE)


async def deliver(response: web.Response, request: web.BaseRequest) -> web.StreamResponse:
    """Send all of a response; ConnectionError if nobody takes it."""
    if request.transport is None or request.transport.is_closing():
        raise ConnectionResetError
    await response.prepare(request)
    await response.write_eof()
    return response


def response_of(reply: Reply) -> web.Response:
    """What is sent for a reply that does not stream."""
    return web.Response(status=reply.status, headers=reply.headers, body=reply.body)
