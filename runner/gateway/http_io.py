"""Reads the bodies of containers' requests, and sends replies.

It bounds what an attempt may hold in memory, and keeps clients waiting as long as an answer takes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from runner.gateway.attempt import AskingAttempt
from runner.gateway.flight import Reply
from runner.gateway.requests import Refused

# Bytes of a request's body, and of all bodies of one attempt that are in memory. A body counts
# while it is read, and again while it is sent.
MOST_OF_A_BODY = 32 * 2**20
MOST_HELD = 512 * 2**20

# Seconds until a client that waits is told that it still may.
REASSURE = 45.0

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


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
                raise Refused(413, f"the body is larger than {MOST_OF_A_BODY >> 20} MiB")
            if attempt.held > MOST_HELD:
                raise Refused(413, f"the bodies at once are larger than {MOST_HELD >> 20} MiB")
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
