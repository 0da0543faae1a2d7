import asyncio
import functools
import os
import secrets
import socket
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import msgspec
from aiohttp import web

from runner.errors import EnvironmentFault
from runner.gateway.asking import (
    CONTINUE,
    AskingAttempt,
    Cost,
    Flight,
    Reply,
    TooMany,
    body_of,
    deliver,
    response_of,
    waited_for,
)
from runner.gateway.messages import Account, Admission, Config, Standing, listen
from runner.gateway.queue import queue_of
from runner.gateway.requests import Asked, RefusedRequest, asked
from runner.gateway.sender import Sender, forget_proxies
from runner.gateway.store import Store, utc
from runner.model import Problem
from runner.records.answers import Failed, Given, Kept, Sent
from runner.records.run_lock import is_held

# Connections of one attempt at once.
MOST_CONNECTIONS = 2048

# Forbidden requests of an attempt that are named to people.
MOST_NAMED = 20

# Seconds between two looks whether there is a run.
LOOK = 2.0

SAMPLE = "x-evalset-sample"

NOT_FOUND = 404


class GatewayServer:
    """Answers requests of containers from the record, or passes them on to providers."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sender = Sender(config.routes, queue_of(config), self._tell, self._warn)
        self._stores: dict[Path, Store] = {}
        self._attempts: dict[str, AskingAttempt] = {}
        self._orphans: defaultdict[tuple[Store, str], list[Flight]] = defaultdict(list)
        self._flights: set[asyncio.Task[None]] = set()
        self._problems: dict[Problem, str] = {}
        self._warnings: list[str] = []
        self._last_request = time.monotonic()
        self._end = asyncio.Event()
        self._admitting = asyncio.Lock()

    def _tell(self, kind: Problem, text: str) -> None:
        self._problems.setdefault(kind, text)

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)

    async def serve(self, control: socket.socket) -> None:
        """Serve until a run ends it, or no run has needed it for a while."""
        server = web.Server(self._control)
        listening = await asyncio.get_running_loop().create_unix_server(server, sock=control)
        forsaken = asyncio.create_task(self._until_forsaken())
        try:
            await self._until_over()
            listening.close()
        finally:
            forsaken.cancel()
            await self._sender.close()

    async def _until_over(self) -> None:
        """Wait until a run has ended it and the answers to all that was sent are on record.

        A run that starts meanwhile takes it over.
        """
        while True:
            await self._end.wait()
            if not self._flights:
                return
            await asyncio.wait(self._flights, return_when=asyncio.FIRST_COMPLETED)

    def _be_done(self) -> None:
        for attempt in list(self._attempts.values()):
            self._dismiss(attempt)
        self._end.set()

    async def _until_forsaken(self) -> None:
        seen = time.monotonic()
        while True:
            await asyncio.sleep(LOOK)
            with suppress(EnvironmentFault):
                if is_held(Path(self._config.lock)):
                    seen = time.monotonic()
            if time.monotonic() - max(seen, self._last_request) > self._config.patience:
                self._be_done()

    # Requests of the run.

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.read()
            result = await self._answer_run(request.method, request.path, body)
        except (LookupError, msgspec.DecodeError, OSError, EnvironmentFault) as error:
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
            case "POST", ["end"]:
                self._be_done()
                return None
        raise LookupError(f"{method} {path}")

    def _standing(self) -> Standing:
        full = next((store.problem for store in self._stores.values() if store.problem), "")
        problems = self._problems | ({Problem.DISK: full} if full else {})
        accounts = {name: self._account(attempt) for name, attempt in self._attempts.items()}
        return Standing(
            pid=os.getpid(), attempts=accounts, problems=problems, warnings=self._warnings
        )

    def _configure(self, config: Config) -> None:
        """Take the configuration of another run, which may have other keys."""
        before, self._config = self._config, config
        self._sender.routes = config.routes
        for name in before.environment.keys() - config.environment.keys():
            os.environ.pop(name, None)
        os.environ.update(config.environment)
        forget_proxies()
        if before.limits != config.limits:
            old, self._sender.queue = self._sender.queue, queue_of(config)
            old.release()
        self._problems.clear()
        self._warnings.clear()
        self._end.clear()

    async def _admit(self, admission: Admission) -> Account:
        async with self._admitting:  # a run and its watch may ask at the same time
            return await self._let_in(admission)

    async def _let_in(self, admission: Admission) -> Account:
        if known := self._attempts.get(admission.attempt):
            return self._account(known)
        store = self._store(Path(admission.answers))
        listener = listen(Path(admission.folder), "api.sock")
        handler = functools.partial(self._serve, admission.attempt)
        web_server = web.Server(
            handler, handler_cancellation=True, keepalive_timeout=60.0, lingering_time=1.0
        )

        def protocol() -> asyncio.BaseProtocol:
            if len(web_server.connections) >= MOST_CONNECTIONS:
                return TooMany()
            return web_server()

        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(protocol, sock=listener, backlog=1024)
        store.admit(admission.attempt)
        store.users += 1
        attempt = AskingAttempt(admission, store, server, web_server)
        self._attempts[admission.attempt] = attempt
        return self._account(attempt)

    def _store(self, path: Path) -> Store:
        """The answers of an eval, which all its attempts share."""
        known = self._stores.get(path)
        if known is not None and known.is_current():
            return known
        try:
            self._stores[path] = found = Store(path, errors=self._config.offline)
        except EnvironmentFault as fault:
            self._tell(Problem.DISK, str(fault))
            raise
        if found.damaged:
            self._warn(found.damaged[0])
        return found

    def _dismiss(self, ended: AskingAttempt) -> Account:
        """End serving an attempt."""
        del self._attempts[ended.id]
        ended.close()
        self._release(ended.store)
        account = self._account(ended)
        self._sender.queue.forget(ended.id)
        return account

    def _account(self, attempt: AskingAttempt) -> Account:
        return attempt.account(self._sender.queue.waited(attempt.id))

    def _release(self, store: Store) -> None:
        """End a use of an eval's answers; after the last one they are closed."""
        store.users -= 1
        if store.users:
            return
        if self._stores.get(store.path) is store:
            del self._stores[store.path]
        store.close()

    # Requests of containers.

    async def _serve(self, name: str, request: web.BaseRequest) -> web.StreamResponse:
        self._last_request = time.monotonic()
        attempt = self._attempts.get(name)
        if attempt is None:  # it has just been dismissed
            return response_of(Reply.final(404, "this attempt has ended", "gateway_error"))
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(CONTINUE)
        attempt.store.users += 1
        try:
            async with body_of(request, attempt) as body:
                wanted = asked(
                    self._config.routes, request.method, request.raw_path, body, request.headers
                )
                attempt.requests += not wanted.is_free
                return await self._give(attempt, wanted, request)
        except RefusedRequest as refused:
            self._name(attempt, refused)
            return response_of(Reply.final(refused.status, refused.text, "not_allowed"))
        finally:
            self._release(attempt.store)

    def _name(self, attempt: AskingAttempt, refused: RefusedRequest) -> None:
        if len(attempt.refused) < MOST_NAMED and refused.text not in attempt.refused:
            attempt.refused.append(refused.text)

    async def _give(
        self, attempt: AskingAttempt, wanted: Asked, request: web.BaseRequest
    ) -> web.StreamResponse:
        sample = request.headers.get(SAMPLE, "")[:200]
        store = attempt.store
        kept = store.exchange.take(wanted.key, attempt.id, sample)
        if kept is not None:
            return await self._replay(attempt, kept, request, is_free=wanted.is_free)
        if self._config.offline:
            return response_of(await _not_on_record(store, wanted, attempt.id, sample))
        flight = self._adopt(store, wanted.key)
        if flight is None:
            attempt.check(wanted, sample)
            flight = self._launch(attempt, wanted, sample)
        flight.attempt = attempt.id
        try:
            if wanted.streams and not flight.head.done():
                await waited_for(flight.head, request, flight.reply)
                if flight.head.done():
                    return await self._stream(attempt, flight, request)
            reply = await waited_for(flight.reply, request)
            attempt.paid(reply)
            if reply.stopped:
                await store.stop(attempt.id, reply.stopped, reply.text)
            return await deliver(response_of(reply), request)
        except (asyncio.CancelledError, ConnectionError):
            self._leave(flight, attempt.id)
            raise

    def _launch(self, attempt: AskingAttempt, wanted: Asked, sample: str) -> Flight:
        store = attempt.store
        flight = Flight(wanted, store, attempt.id, sample)
        flight.task = task = asyncio.create_task(self._fly(flight, attempt))
        self._flights.add(task)
        store.users += 1
        attempt.held += len(wanted.body)

        def landed(_: asyncio.Task[None]) -> None:
            self._flights.discard(task)
            attempt.held -= len(wanted.body)
            self._release(store)

        task.add_done_callback(landed)
        return flight

    async def _fly(self, flight: Flight, attempt: AskingAttempt) -> None:
        try:
            async with attempt.room:
                await self._sender.fly(flight)
            attempt.landed(flight)
        finally:
            if not flight.reply.done():  # nobody waits for it, and it has not been sent
                flight.reply.set_result(Reply(status=499, body=b""))

    def _adopt(self, store: Store, key: str) -> Flight | None:
        """An equal request under way that nobody waits for any more; None if there is none."""
        orphans = self._orphans.get((store, key), [])
        for flight in orphans:
            if (
                not flight.reply.done()
            ):  # if it is done, its answer is on record, and may be given to others
                orphans.remove(flight)
                return flight
        return None

    def _leave(self, flight: Flight, attempt: str) -> None:
        """Note that the client of a request has gone; what was sent is finished all the same."""
        flight.attempt = ""
        if flight.reply.done():
            if kept := flight.reply.result().kept:
                flight.store.give_back(kept, attempt)
            return
        if not flight.sent:
            if flight.task is not None:
                flight.task.cancel()
            return
        place = (flight.store, flight.key)
        self._orphans[place].append(flight)

        def landed(_: asyncio.Future[Reply]) -> None:
            with suppress(ValueError):
                self._orphans[place].remove(flight)
            if not self._orphans[place]:
                del self._orphans[place]

        flight.reply.add_done_callback(landed)

    async def _replay(
        self, attempt: AskingAttempt, kept: Kept, request: web.BaseRequest, *, is_free: bool
    ) -> web.StreamResponse:
        try:
            answer = attempt.store.read(kept)
            await attempt.store.write(Given(id=kept.id, attempt=attempt.id, at=utc()))
            reply = Reply(status=answer.status, headers=answer.headers, body=answer.body.encode())
            sent = await deliver(response_of(reply), request)
        except (asyncio.CancelledError, ConnectionError):
            attempt.store.give_back(kept, attempt.id)
            raise
        if not is_free:
            attempt.saved(Cost.of(answer))
        return sent

    async def _stream(
        self, attempt: AskingAttempt, flight: Flight, request: web.BaseRequest
    ) -> web.StreamResponse:
        """Pass on a stream as it arrives; the last piece only when all of it is on record."""
        head = flight.head.result()
        response = web.StreamResponse(status=head.status, headers=head.headers)
        await response.prepare(request)
        while (piece := await flight.pieces.get()) is not None:
            await response.write(piece)
        if (await flight.reply).kept is None and request.transport:
            request.transport.abort()  # so that the client does not take a part for the whole
            raise ConnectionResetError
        await response.write_eof()
        attempt.paid(flight.reply.result())
        return response


async def _not_on_record(store: Store, asked: Asked, attempt: str, sample: str) -> Reply:
    """Answer a request that the record has no answer for, and note that it was made.

    The note is the pair of lines of a request that was sent and failed.
    """
    text = "no answer on record"
    key = asked.key
    await store.describe(key, asked)
    sent = Sent(id=secrets.token_hex(8), key=key, attempt=attempt, sample=sample, model=asked.model)
    await store.write(sent)
    await store.write(Failed(id=sent.id, status=NOT_FOUND, billed=False, reason=text))
    return Reply.final(NOT_FOUND, text, "not_on_record")
