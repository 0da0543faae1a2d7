"""The process of the stub of a provider, which `tests/provider.py` starts and describes.

Its arguments are a folder and a port. The first line of its input is its behaviour, and the end of
its input is its own, so that it does not outlive a test that was killed. It prints its port.
"""

import asyncio
import math
import os
import socket
import sys
import threading
import time
import zlib
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from tests.provider import (
    COOKIE,
    ORGANIZATION,
    Behaviour,
    Bill,
    Departure,
    Entry,
    Refusal,
    Request,
    Step,
    body_key,
    ledger_of,
    read_lines,
    requests_of,
)
from tests.provider_answers import asked_of, error, models, place_of, reply, stream, whole

BEHAVE = "/_behave"
NOISE = b"\x16\x03\x01\x00\xff no HTTP\r\n\r\n" * 3
GARBAGE = b'{"id": "chatcmpl-\xff\xfe\x00, garbage'
PAGE = b"<!DOCTYPE html><html><title>Sign in</title><p>Sign in to use this network.</p></html>"
JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"
HTML = "text/html; charset=utf-8"
OK = range(200, 300)


class Lines:
    """A file to which entries are appended."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._sync: asyncio.Task[None] | None = None

    def append(self, entry: object) -> None:
        """Write an entry."""
        self._file.write(msgspec.json.encode(entry) + b"\n")

    async def append_durably(self, entry: object) -> None:
        """Return when the entry is on the disk; those that come meanwhile share one sync."""
        synced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((msgspec.json.encode(entry) + b"\n", synced))
        if self._sync is None or self._sync.done():
            self._sync = asyncio.create_task(self._write_all())
        await synced

    async def _write_all(self) -> None:
        while self._waiting:
            entries, self._waiting = self._waiting, []
            self._file.write(b"".join(line for line, _ in entries))
            await asyncio.to_thread(os.fsync, self._file.fileno())
            for _, synced in entries:
                if not synced.done():
                    synced.set_result(None)


class Room:
    """How many requests a stretch of time has room for."""

    def __init__(self) -> None:
        self._taken: deque[float] = deque()

    def take(self, now: float, behaviour: Behaviour) -> float:
        """Take room for one request; gives 0, or in how many seconds there will be some."""
        if not behaviour.rpm:
            return 0
        while self._taken and self._taken[0] <= now - behaviour.window:
            self._taken.popleft()
        if self.left(behaviour) > 0:
            self._taken.append(now)
            return 0
        return self._taken[0] + behaviour.window - now

    def left(self, behaviour: Behaviour) -> int:
        """For how many requests there is room."""
        return max(int(behaviour.rpm * behaviour.window / 60), 1) - len(self._taken)

    def headers(self, now: float, behaviour: Behaviour) -> dict[str, str]:
        """What OpenAI tells of it; nothing where there is no limit."""
        if not behaviour.rpm:
            return {}
        reset = self._taken[0] + behaviour.window - now if self._taken else 0
        return {
            "x-ratelimit-limit-requests": str(behaviour.rpm),
            "x-ratelimit-remaining-requests": str(max(self.left(behaviour), 0)),
            "x-ratelimit-reset-requests": f"{math.ceil(max(reset, 0) * 1000)}ms",
        }


class Server(web.Server):
    """Tells the stub of requests, and when a client has gone."""

    def __init__(self, stub: "Stub") -> None:
        super().__init__(self._handle)
        self._stub = stub
        self._gone: dict[web.RequestHandler, asyncio.Event] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """A client is there."""
        super().connection_made(handler, transport)
        self._gone[handler] = asyncio.Event()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """A client has gone."""
        super().connection_lost(handler, exc)
        self._gone.pop(handler).set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        gone = self._gone.get(request.protocol)
        return await self._stub.handle(request, gone) if gone else web.Response()


class Stub:
    """The provider."""

    def __init__(self, folder: Path, start: Behaviour) -> None:
        before = read_lines(ledger_of(folder), Entry)
        self._bills = sum(isinstance(each, Bill) for each in before)
        self._numbers = len(read_lines(requests_of(folder), Request))
        self._ledger = Lines(ledger_of(folder))
        self._requests = Lines(requests_of(folder))
        self._start = msgspec.to_builtins(start)
        self._behaviour = start
        self._scripted = 0
        self._room = Room()
        self._open = 0

    async def handle(self, request: web.BaseRequest, gone: asyncio.Event) -> web.StreamResponse:
        """Answer a request, or fail as is wanted."""
        try:
            body = await request.content.read()  # of any size
        except ConnectionError:
            return web.Response()  # to nobody
        if request.path == BEHAVE:
            return self._behave(body)
        self._open += 1
        came = self._log(request, body)
        try:
            return await self._answer(
                Exchange(request, came, _as_json(body), self._behaviour), gone
            )
        except ConnectionError:
            await self._ledger.append_durably(Departure(came.number, time.monotonic()))
            return web.Response()
        finally:
            self._open -= 1

    def _behave(self, body: bytes) -> web.StreamResponse:
        wanted = {**self._start, "script": [], **msgspec.json.decode(body)}
        self._behaviour = msgspec.convert(wanted, Behaviour)
        self._scripted = 0
        return web.Response(status=204)

    def _log(self, request: web.BaseRequest, body: bytes) -> Request:
        self._numbers += 1
        peer = request.transport.get_extra_info("peername") if request.transport else ("", 0)
        came = Request(
            number=self._numbers,
            at=time.monotonic(),
            connection=peer[1],
            open=self._open,
            method=request.method,
            path=request.raw_path,
            headers=[(_as_text(name), _as_text(value)) for name, value in request.raw_headers],
            body=body.decode(errors="replace"),
        )
        self._requests.append(came)
        return came

    async def _answer(self, exchange: "Exchange", gone: asyncio.Event) -> web.StreamResponse:
        step = self._step(exchange)
        if step.delay:
            await asyncio.sleep(step.delay)
        return await self._do(exchange, step, gone)

    def _step(self, exchange: "Exchange") -> Step:
        """What is done with a request."""
        if exchange.refused:
            return exchange.refused
        if exchange.asked is None:
            return self._behaviour.step(len(self._behaviour.script))
        if wait := self._room.take(time.monotonic(), self._behaviour):
            after, after_ms = math.ceil(wait), math.ceil(wait * 1000)
            return Step(status=429, retry_after=after, retry_after_ms=after_ms)
        self._scripted += 1
        return self._behaviour.step(self._scripted - 1)

    async def _do(
        self, exchange: "Exchange", step: Step, gone: asyncio.Event
    ) -> web.StreamResponse:
        """Bill or refuse, and deliver."""
        bill = 0 if step.way in ("reset", "hang") else await self._book(exchange, step)
        if step.way.endswith("reset"):
            exchange.reset()
            return web.Response()
        if step.way.endswith("hang"):
            await gone.wait()
            raise ConnectionResetError
        if step.way == "noise":
            exchange.transport.write(NOISE)
            exchange.transport.close()
            return web.Response()
        kind, parts = exchange.content(step, bill)
        headers = self._room.headers(time.monotonic(), self._behaviour)
        return await exchange.send(step, {**headers, "Content-Type": kind}, parts, gone)

    async def _book(self, exchange: "Exchange", step: Step) -> int:
        """Write a bill or a refusal down; gives the bill's number, or 0."""
        now, came, key = time.monotonic(), exchange.came, exchange.key
        if step.status not in OK:
            pauses = [step.retry_after or 0, (step.retry_after_ms or 0) / 1000]
            until = now + max(pauses) if any(pauses) else None
            refusal = Refusal(came.number, came.path, key, now, step.status, until)
            await self._ledger.append_durably(refusal)
            return 0
        if exchange.asked is None:
            return 0
        self._bills += 1
        number, tokens = self._bills, exchange.asked.tokens(step)
        bill = Bill(number, came.number, came.path, key, now, tokens)
        await self._ledger.append_durably(bill)
        return number


class Exchange:
    """One request, and the way to its answer.

    Attributes:
        came: the request, as it is logged.
        asked: what it asks for; None if that is no answer, or nothing that there is.
        refused: what it gets because it is wrong; None if it is right.
        key: of the body.
    """

    def __init__(
        self, request: web.BaseRequest, came: Request, body: object, behaviour: Behaviour
    ) -> None:
        self._request = request
        self._behaviour = behaviour
        self.came = came
        self.key = body_key(body)
        self._place = place_of(request.path) if request.method == "POST" else None
        self.asked = asked_of(*self._place, body) if self._place else None
        self.refused = self._refused()

    @property
    def transport(self) -> asyncio.Transport:
        """The connection.

        Raises:
            ConnectionError: the client has gone.
        """
        if not isinstance(self._request.transport, asyncio.Transport):
            raise ConnectionResetError
        return self._request.transport

    def reset(self) -> None:
        """End the connection, so that the client sees an error and not an end."""
        own: socket.socket = self.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.transport.abort()

    def content(self, step: Step, bill: int) -> tuple[str, list[bytes]]:
        """An answer's type and body, in the pieces in which it is sent."""
        if step.way == "html":
            return HTML, [PAGE]
        if step.way == "garbage" and not (self.asked and self.asked.stream):
            return JSON, [GARBAGE]
        if step.status not in OK:
            return JSON, [error(self._request.path, step)]
        if self.asked is None:
            found = msgspec.json.encode(models(self._request.path, self._behaviour))
            own = self._request.path == "/v1/models" and self._behaviour.listed.encode()
            return JSON, [own or found]
        made = reply(self.asked, step, bill)
        if self.asked.stream:
            events = stream(made, step.size)
            if step.way == "garbage":
                events[1] = b"data: " + GARBAGE + b"\n\n"
            return EVENTS, events
        return JSON, [whole(made, step.size)]

    async def send(
        self, step: Step, headers: dict[str, str], parts: list[bytes], gone: asyncio.Event
    ) -> web.StreamResponse:
        """Send an answer, whole or not."""
        headers = {**headers, **_headers(step), "x-request-id": f"req_{self.came.number}"}
        if step.gzip:
            parts = _squeezed(parts)
        response = web.StreamResponse(status=step.status, headers=headers)
        parts, left_out = _halves(parts) if step.way in ("cut", "short") else (parts, [])
        if headers["Content-Type"] != EVENTS:
            promised = [*parts, *left_out] if step.way == "cut" else parts
            response.content_length = sum(map(len, promised))
        await response.prepare(self._request)
        for index, part in enumerate(parts):
            if index and step.piece_delay:
                await _pause(step.piece_delay, gone)
            await response.write(part)
        if step.way == "cut":
            self.transport.close()
        else:
            await response.write_eof()
        return response

    def _refused(self) -> Step | None:
        headers = self._request.headers
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        keys = (token, headers.get("api-key"), headers.get("x-api-key"))
        if self._behaviour.key not in keys:
            return Step(status=401)
        if self._request.method == "GET":
            return self._not_there()
        if self._place is None or self._lacks("/openai/deployments/", "api-version"):
            return Step(status=404)
        if self.asked is None or self._lacks("/v1/messages", "anthropic-version"):
            return Step(status=400)
        return None

    def _not_there(self) -> Step | None:
        if models(self._request.path, self._behaviour):
            return None
        if not self._request.path.startswith("/v1/models/"):
            return Step(status=404, code="unknown_url")
        return Step(status=404, code="model_not_found", error=self._behaviour.no_model)

    def _lacks(self, path: str, name: str) -> bool:
        """Whether it goes to this path without the version that belongs there."""
        there = name in self._request.query or name in self._request.headers
        return self._request.path.startswith(path) and not there


def _as_json(body: bytes) -> Any:  # noqa: ANN401 - as decoded
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body


def _as_text(header: bytes) -> str:
    return header.decode("latin-1")


def _headers(step: Step) -> dict[str, str]:
    headers = {"Set-Cookie": COOKIE, "openai-organization": ORGANIZATION}
    if step.retry_after is not None:
        headers["Retry-After"] = f"{step.retry_after:g}"
    if step.retry_after_ms is not None:
        headers["retry-after-ms"] = str(step.retry_after_ms)
    if step.gzip:
        headers["Content-Encoding"] = "gzip"
    return {**headers, **step.headers}


async def _pause(seconds: float, gone: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(gone.wait(), seconds)
        raise ConnectionResetError


def _squeezed(parts: list[bytes]) -> list[bytes]:
    """Each part compressed so that it can be read before the next comes."""
    squeezing = zlib.compressobj(wbits=31)
    packed = [squeezing.compress(part) + squeezing.flush(zlib.Z_SYNC_FLUSH) for part in parts]
    return [*packed[:-1], packed[-1] + squeezing.flush()]


def _halves(parts: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    if len(parts) == 1:
        middle = len(parts[0]) // 2
        return [parts[0][:middle]], [parts[0][middle:]]
    middle = len(parts) // 2
    return parts[:middle], parts[middle:]


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


async def serve(folder: Path, port: int) -> None:
    """Answer requests until the process ends."""
    start = msgspec.json.decode(sys.stdin.buffer.readline(), type=Behaviour)
    threading.Thread(target=_end_with_input, daemon=True).start()
    runner = web.ServerRunner(Server(Stub(folder, start)))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
