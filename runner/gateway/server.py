import asyncio
import functools
import os
import resource
import socket
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import msgspec
from aiohttp import web

from runner.gateway.client import Account, Admission, Check, Config, Standing
from runner.gateway.flight import Cost, Flight, Reply, sum_of
from runner.gateway.providers import Asked, Refused, asked
from runner.gateway.queue import Queue
from runner.gateway.sender import Sender
from runner.gateway.store import Store
from runner.model import Spending
from runner.records.answers import Given, Kept, Usage, read_sums
from runner.records.lock import is_held

# Bytes of a request's body; connections of one attempt at once.
MOST_OF_A_BODY = 32 * 2**20
MOST_CONNECTIONS = 2048

# Forbidden requests of an attempt that are named.
MOST_NAMED = 20

# Seconds until a client that waits is told that it still may.
REASSURE = 45.0

# Seconds without a run and without a request after which a gateway ends by itself, and how often
# it looks.
FORSAKEN = 600.0
LOOK = 2.0

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SAMPLE = "x-evalset-sample"


class _Attempt:
    """One attempt that may ask, and what it has asked so far."""

    def __init__(self, admission: Admission, store: Store, server: asyncio.Server) -> None:
        self.id = admission.attempt
        self.store = store
        self.server = server
        self.requests = 0
        self.replayed = 0
        self._paid: list[Cost] = []
        self._saved: list[Cost] = []
        self.refused: list[str] = []
        self.stopped = self.kind = ""

    def paid(self, reply: Reply) -> None:
        """It was given an answer of its provider's."""
        self._paid = [sum_of([*self._paid, reply.cost])]
        if reply.stopped and not self.stopped:
            self.stopped, self.kind = reply.text, reply.stopped

    def saved(self, cost: Cost) -> None:
        """It was given an answer on record."""
        self.replayed += 1
        self._saved = [sum_of([*self._saved, cost])]

    def account(self, waited: float) -> Account:
        """All of it; `waited` are seconds."""
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


class Gateway:
    """Takes requests of containers, and answers them from the record or from their providers."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sender = Sender(config.routes, queue_of(config), self._tell)
        self._stores: dict[str, Store] = {}
        self._attempts: dict[str, _Attempt] = {}
        self._orphans: defaultdict[tuple[str, str], list[Flight]] = defaultdict(list)
        self._flights: set[asyncio.Task[None]] = set()
        self._problems: dict[str, str] = {}
        self._last_request = time.monotonic()
        self._end = asyncio.Event()

    def _tell(self, kind: str, text: str) -> None:
        self._problems.setdefault(kind, text)

    async def serve(self, control: socket.socket) -> None:
        """Serve until a run ends it, or none has needed it for a while."""
        server = web.Server(self._control)
        listening = await asyncio.get_running_loop().create_unix_server(server, sock=control)
        forsaken = asyncio.create_task(self._until_forsaken())
        try:
            await self._end.wait()
            listening.close()
            for attempt in list(self._attempts.values()):
                attempt.server.close()
            if self._flights:  # what was sent is waited for, because it is paid
                await asyncio.wait(self._flights)
        finally:
            forsaken.cancel()
            await self._sender.close()

    async def _until_forsaken(self) -> None:
        seen = time.monotonic()
        while True:
            await asyncio.sleep(LOOK)
            if is_held(Path(self._config.lock)):
                seen = time.monotonic()
            if time.monotonic() - max(seen, self._last_request) > FORSAKEN:
                self._end.set()

    # What the run asks.

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.read()
            result = await self._answer_run(request.method, request.path, body)
        except (LookupError, msgspec.DecodeError, OSError) as error:
            return web.Response(status=400, text=f"{type(error).__name__}: {error}")
        return web.Response(body=msgspec.json.encode(result))

    async def _answer_run(self, method: str, path: str, body: bytes) -> object:
        match method, path.split("/")[1:]:
            case "GET", [""]:
                return self._standing()
            case "POST", ["attempts"]:
                return await self._admit(msgspec.json.decode(body, type=Admission))
            case "GET" | "DELETE", ["attempts", attempt]:
                known = self._attempts[attempt]
                return self._account(known) if method == "GET" else self._dismiss(known)
            case "PUT", ["config"]:
                self._configure(msgspec.json.decode(body, type=Config))
                return None
            case "POST", ["check"]:
                wanted = msgspec.json.decode(body, type=Check)
                return await self._sender.check(self._config.routes[wanted.route], wanted.model)
            case "POST", ["end"]:
                self._end.set()
                return None
        raise LookupError(f"{method} {path}")

    def _standing(self) -> Standing:
        full = next((store.problem for store in self._stores.values() if store.problem), "")
        problems = self._problems | ({"disk": full} if full else {})
        return Standing(pid=os.getpid(), attempts=list(self._attempts), problems=problems)

    def _configure(self, config: Config) -> None:
        """Another run takes over, perhaps with other keys."""
        before, self._config = self._config, config
        self._sender.routes = config.routes
        if before.limits != config.limits:
            self._sender.queue = queue_of(config)
        self._problems.clear()
        self._end.clear()

    async def _admit(self, admission: Admission) -> Account:
        if known := self._attempts.get(admission.attempt):
            return self._account(known)
        if admission.answers not in self._stores:
            self._stores[admission.answers] = Store(Path(admission.answers))
        store = self._stores[admission.answers]
        store.admit(admission.attempt)
        listener = listen(Path(admission.folder), "api.sock")
        handler = functools.partial(self._serve, admission.attempt)
        web_server = web.Server(
            handler, handler_cancellation=True, keepalive_timeout=60.0, lingering_time=1.0
        )

        def protocol() -> asyncio.BaseProtocol:
            if len(web_server.connections) >= MOST_CONNECTIONS:
                return _Closing()
            return web_server()

        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(protocol, sock=listener, backlog=1024)
        self._attempts[admission.attempt] = _Attempt(admission, store, server)
        return self._account(self._attempts[admission.attempt])

    def _dismiss(self, ended: _Attempt) -> Account:
        """An attempt has ended."""
        attempt = ended.id
        del self._attempts[attempt]
        ended.server.close()
        ended.store.exchange.forget(attempt)
        if not any(other.store is ended.store for other in self._attempts.values()):
            self._retire(ended.store)
        account = self._account(ended)
        self._sender.queue.forget(attempt)
        return account

    def _account(self, attempt: _Attempt) -> Account:
        return attempt.account(self._sender.queue.waited(attempt.id))

    def _retire(self, store: Store) -> None:
        """Let the memory of an eval's answers go, unless requests of it are under way."""
        if not any(flights for (_, key), flights in self._orphans.items()):
            for path, other in list(self._stores.items()):
                if other is store:
                    del self._stores[path]
                    store.close()

    # What containers ask.

    async def _serve(self, name: str, request: web.BaseRequest) -> web.StreamResponse:
        self._last_request = time.monotonic()
        attempt = self._attempts.get(name)
        if attempt is None:  # it was dismissed a moment ago
            return _response(Reply.final(404, "this attempt has ended", "gateway_error"))
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(CONTINUE)
        try:
            body = await _body_of(request)
            wanted = asked(
                self._config.routes, request.method, request.raw_path, body, request.headers
            )
        except Refused as refused:
            self._name(attempt, refused)
            return _response(Reply.final(refused.status, refused.text, "not_allowed"))
        attempt.requests += 1
        return await self._give(attempt, wanted, request)

    def _name(self, attempt: _Attempt, refused: Refused) -> None:
        if len(attempt.refused) < MOST_NAMED and refused.text not in attempt.refused:
            attempt.refused.append(refused.text)

    async def _give(
        self, attempt: _Attempt, wanted: Asked, request: web.BaseRequest
    ) -> web.StreamResponse:
        sample = request.headers.get(SAMPLE, "")[:200]
        store = attempt.store
        kept = store.exchange.take(wanted.key, attempt.id, sample)
        if kept is not None:
            return await self._replay(attempt, kept, request)
        flight = self._adopt(store, wanted.key) or self._launch(store, wanted, attempt.id, sample)
        flight.attempt = attempt.id
        try:
            if wanted.streams and not flight.head.done():
                return await self._stream(attempt, flight, request)
            reply = await _waited_for(flight.reply, request)
            attempt.paid(reply)
            return await _deliver(_response(reply), request)
        except (asyncio.CancelledError, ConnectionError):
            self._leave(flight, attempt.id)
            raise

    def _launch(self, store: Store, wanted: Asked, attempt: str, sample: str) -> Flight:
        flight = Flight(wanted, store, attempt, sample)
        flight.task = task = asyncio.create_task(self._sender.fly(flight))
        self._flights.add(task)
        task.add_done_callback(self._flights.discard)
        return flight

    def _adopt(self, store: Store, key: str) -> Flight | None:
        """An equal request that is under way, and that nobody waits for any more."""
        orphans = self._orphans.get((str(store.path), key))
        return orphans.pop(0) if orphans else None

    def _leave(self, flight: Flight, attempt: str) -> None:
        """Whoever waited for a request has gone; what was sent comes to its end all the same."""
        flight.attempt = ""
        if flight.reply.done():
            if kept := flight.reply.result().kept:
                flight.store.give_back(kept, attempt)
            return
        if not flight.sent:
            if flight.task is not None:
                flight.task.cancel()
            return
        place = (str(flight.store.path), flight.key)
        self._orphans[place].append(flight)

        def landed(_: asyncio.Future[Reply]) -> None:
            with suppress(ValueError):
                self._orphans[place].remove(flight)
            if not self._orphans[place]:
                del self._orphans[place]

        flight.reply.add_done_callback(landed)

    async def _replay(
        self, attempt: _Attempt, kept: Kept, request: web.BaseRequest
    ) -> web.StreamResponse:
        answer = attempt.store.read(kept)
        await attempt.store.write(Given(id=kept.id, attempt=attempt.id))
        reply = Reply(
            status=answer.status, headers=answer.headers, body=answer.body.encode(), kept=kept
        )
        try:
            sent = await _deliver(_response(reply), request)
        except (asyncio.CancelledError, ConnectionError):
            attempt.store.give_back(kept, attempt.id)
            raise
        attempt.saved(Cost.of(answer))
        return sent

    async def _stream(
        self, attempt: _Attempt, flight: Flight, request: web.BaseRequest
    ) -> web.StreamResponse:
        """Pass a stream on as it comes; its last piece comes when all of it is on record."""
        await _waited_for(flight.head, request, flight.reply)
        if not flight.head.done():
            return await _deliver(_response(flight.reply.result()), request)
        head = flight.head.result()
        response = web.StreamResponse(status=head.status, headers=head.headers)
        await response.prepare(request)
        while (piece := await flight.pieces.get()) is not None:
            await response.write(piece)
        if (await flight.reply).kept is None and request.transport:
            request.transport.abort()  # so that nobody takes a part for the whole
            raise ConnectionResetError
        await response.write_eof()
        attempt.paid(flight.reply.result())
        return response


class _Closing(asyncio.Protocol):
    """What a connection gets that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _body_of(request: web.BaseRequest) -> bytes:
    pieces = []
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
        if size > MOST_OF_A_BODY:
            raise Refused(413, f"the body is larger than {MOST_OF_A_BODY >> 20} MiB")
        pieces.append(piece)
    return b"".join(pieces)


async def _waited_for(
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


async def _deliver(response: web.Response, request: web.BaseRequest) -> web.StreamResponse:
    """Send all of a response; ConnectionError if nobody takes it."""
    if request.transport is None or request.transport.is_closing():
        raise ConnectionResetError
    await response.prepare(request)
    await response.write_eof()
    return response


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, headers=reply.headers, body=reply.body)


def queue_of(config: Config) -> Queue:
    """A queue for what requests may take, less what those on record have taken."""
    allowance = config.limits.allowance()
    if config.limits.budget is not None:
        for path in Path(config.answers).glob("*.jsonl"):
            found = read_sums(path)
            for model, usage in found.spent.items():
                allowance.was_paid(model, usage)
            for model, reserved in found.perhaps:
                allowance.was_paid(model, Usage(input=reserved.tokens), usd=reserved.usd)
    return Queue(allowance)


def listen(folder: Path, name: str) -> socket.socket:
    """Listen on a Unix socket, however long its path is."""
    with suppress(FileNotFoundError):
        (folder / name).unlink()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)
    listener.setblocking(False)  # noqa: FBT003 - its only argument
    return listener


def raise_limits() -> None:
    """Allow as many connections as the system lets this process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
