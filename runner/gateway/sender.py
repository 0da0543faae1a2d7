import asyncio
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote

import aiohttp

from runner.gateway.client import Problem
from runner.gateway.flight import Cost, Failure, Flight, GoneError, Reply
from runner.gateway.providers import Asked, Route, error_body, kept_headers
from runner.gateway.store import utc
from runner.gateway.usage import usage_of
from runner.records.answers import Answer, Failed, Request, Sent

# Bytes of an answer's body.
MOST_OF_AN_ANSWER = 64 * 2**20

# Answers that are recorded because evals use their texts; they cost nothing.
TEXTS = {400, 404, 413, 422}

# An error of the provider's own, or on the way to it: tried again, since nothing was paid for.
PASSING = {408, 409, 500, 502, 503, 504, 520, 521, 522, 524, 529}

# How often, and the pauses in between, which double.
TRIES = 6
FIRST_PAUSE = 1.0

# Codes with which a provider says that more requests do not help.
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")

# What a whole stream says at its end; a proxy on the way may end one properly that was cut.
END = re.compile(
    rb"^(?:data: ?\[DONE\]|event: ?(?:message_stop|response\.(?:completed|incomplete|failed)))",
    re.MULTILINE,
)

# How long a provider may take to say whether it has a model, in seconds.
CHECK = 15.0

# How long a provider may take to begin, and to go on, in seconds.
PATIENCE = 600.0


class Sender:
    """Brings requests to their providers, and puts the answers on record.

    Args:
        routes: by name.
        tell: is told why no request can succeed any more, such as a key that was refused.
    """

    def __init__(self, routes: Mapping[str, Route], tell: Callable[[str, str], None]) -> None:
        self.routes = routes
        self._tell = tell
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=PATIENCE)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0),
            trust_env=True,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close the connections to providers."""
        await self._session.close()

    async def check(self, route: Route, model: str) -> Problem | None:
        """Ask a provider for a model, which costs nothing; say what is wrong.

        Args:
            model: empty where any answer will do.
        """
        path = f"{route.base}/models/{quote(model)}" if model else f"{route.base}/models"
        try:
            async with self._session.get(
                route.url(path),
                headers=route.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=CHECK),
            ) as response:
                body = await response.content.read(2**16)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Problem(
                f"the provider {route.name} cannot be reached at {route.shown}: {_why(error)}",
                f"check {route.address_from} and the network",
            )
        if response.status in {401, 403}:
            return Problem(
                f"the provider {route.name} refused the key ({response.status})",
                f"set {route.key_from} to a valid one",
            )
        if response.status == 404 and b"model_not_found" in body:  # noqa: PLR2004 - HTTP's
            return Problem(
                f"the provider {route.name} has no model `{model}`, or not for this key",
                "check the model's name",
            )
        return None

    async def fly(self, flight: Flight) -> None:
        """Bring one request to its end; `flight.reply` has the result, and nothing is raised."""
        try:
            reply = await self._until_answered(flight)
        except GoneError:
            reply = Reply(status=499, body=b"")
        except Failure as failure:
            reply = failure.reply
        except Exception as error:  # noqa: BLE001 - whoever waits must be told
            reply = Reply.final(500, f"the gateway failed: {error!r}", "gateway_error")
        flight.reply.set_result(reply)
        flight.pieces.put_nowait(None)

    async def _until_answered(self, flight: Flight) -> Reply:
        pause = FIRST_PAUSE
        for left in reversed(range(TRIES)):
            if not flight.attempt:
                raise GoneError
            try:
                return await self._once(flight)
            except Failure as failure:
                if not (failure.again and left) or flight.head.done():
                    raise
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("the last try returns or raises")

    async def _once(self, flight: Flight) -> Reply:
        store, asked = flight.store, flight.asked
        sent = Sent(
            id=secrets.token_hex(8),
            key=flight.key,
            attempt=flight.attempt,
            sample=flight.sample,
            at=utc(),
            model=asked.model,
        )
        if not store.describes(flight.key):
            await store.write(
                Request(
                    key=flight.key,
                    route=asked.route,
                    method=asked.method,
                    path=asked.path,
                    body=asked.content,
                )
            )
        await store.write(sent)
        await store.durable()
        if not flight.attempt:
            await store.write(Failed(id=sent.id, billed=False, reason="nobody waits for it"))
            raise GoneError
        began = time.monotonic()
        try:
            status, headers, body, tail = await self._exchange(flight)
        except Failure as failure:
            await store.write(
                Failed(
                    id=sent.id, status=failure.status, billed=failure.billed, reason=str(failure)
                )
            )
            raise
        answer = Answer(
            id=sent.id,
            key=flight.key,
            attempt=flight.attempt,
            sample=flight.sample,
            at=utc(),
            seconds=round(time.monotonic() - began, 3),
            status=status,
            headers=headers,
            body=body.decode(errors="replace"),
            model=asked.model,
            usage=usage_of(body) if status < 400 else None,  # noqa: PLR2004 - the first error
        )
        kept = await store.add(answer, lambda: flight.attempt)
        if tail is not None:
            flight.pieces.put_nowait(tail)
        return Reply(status=status, headers=headers, body=body, kept=kept, cost=Cost.of(answer))

    async def _exchange(self, flight: Flight) -> tuple[int, dict[str, str], bytes, bytes | None]:
        """Send a request and read all of its answer.

        Returns:
            Its status, headers and body, and the last piece of a stream, which is held back.
        """
        asked = flight.asked
        route = self.routes[asked.route]
        try:
            async with self._session.request(
                asked.method,
                route.url(asked.path),
                data=asked.body or None,
                headers={**asked.headers, **_content(asked), **route.headers},
                allow_redirects=False,
            ) as response:
                headers = kept_headers(response.headers)
                if response.status == 200 and _is_stream(headers):  # noqa: PLR2004 - OK
                    body, tail = await _stream(flight, response, headers)
                    return response.status, headers, body, tail
                body = await _whole(response)
                self._check(route, response.status, headers, body)
                return response.status, headers, body, None
        except aiohttp.ClientConnectorError as error:
            text = f"{route.name} cannot be reached: {_why(error)}"
            raise _unanswered(text, billed=False, again=True) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = f"{route.name} broke off: {type(error).__name__} {error}"
            raise _unanswered(text, billed=None) from error

    def _check(self, route: Route, status: int, headers: dict[str, str], body: bytes) -> None:
        """Raise a Failure unless an answer is worth keeping."""
        if status < 300 or status in TEXTS:  # noqa: PLR2004 - the first redirect
            if _is_json(body):
                return
            kind = headers.get("content-type", "no content type").partition(";")[0]
            text = f"{route.name} answered {kind} that is not JSON; is its address right?"
            billed = None if status < 300 else False  # noqa: PLR2004 - as above
            raise Failure(Reply.final(424, text, "no_answer"), status=status, billed=billed)
        if status in {401, 403}:
            text = f"{route.name} refused the key ({status}); set {route.key_from} to a valid one"
            self._tell("key", text)
            reply = Reply.final(401, text, "invalid_api_key", stopped=True)
            raise Failure(reply, status=status, billed=False)
        if status == 402 or (status == 429 and any(code.encode() in body for code in NO_MONEY)):  # noqa: PLR2004 - HTTP's
            text = f"{route.name} has no money left for this key; add some to the account"
            self._tell("quota", text)
            reply = Reply.final(402, text, "insufficient_quota", stopped=True)
            raise Failure(reply, status=status, billed=False)
        if 300 <= status < 400:  # noqa: PLR2004 - a redirect
            text = f"{route.name} answered with a redirect; correct its address"
            raise Failure(Reply.final(424, text, "no_answer"), status=status, billed=False)
        raise Failure(
            Reply(status=status, headers=headers, body=body),
            status=status,
            billed=False,
            again=status in PASSING or status == 429,  # noqa: PLR2004 - HTTP's
        )


def _why(error: Exception) -> str:
    """Why there is no connection or no answer, in few words."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno)
    if isinstance(error, TimeoutError):
        return f"no answer in {CHECK:g} s"
    return str(error) or type(error).__name__


def _content(asked: Asked) -> dict[str, str]:
    return {"Content-Type": "application/json"} if asked.body else {}


def _is_stream(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").startswith("text/event-stream")


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _unanswered(text: str, *, billed: bool | None, again: bool = False) -> Failure:
    headers = {"content-type": "application/json"}
    reply = Reply(status=502, headers=headers, body=error_body(text, "no_answer"))
    return Failure(reply, status=0, billed=billed, again=again)


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    pieces = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > MOST_OF_AN_ANSWER:
            text = f"the answer is larger than {MOST_OF_AN_ANSWER >> 20} MiB"
            reply = Reply.final(424, text, "no_answer")
            raise Failure(reply, status=response.status, billed=None)
        pieces.append(piece)
    return b"".join(pieces)


async def _stream(
    flight: Flight, response: aiohttp.ClientResponse, headers: dict[str, str]
) -> tuple[bytes, bytes]:
    """Pass the pieces of a stream on, and hold the last one back."""
    flight.head.set_result(Reply(status=response.status, headers=headers, body=b""))
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        if pieces:
            flight.pieces.put_nowait(pieces[-1])
        size += len(piece)
        if size > MOST_OF_AN_ANSWER:
            raise aiohttp.ClientPayloadError("the stream is too long")
        pieces.append(piece)
    if not pieces:
        raise aiohttp.ClientPayloadError("the stream is empty")
    body = b"".join(pieces)
    if not END.search(body):
        raise aiohttp.ClientPayloadError("the stream has no end")
    return body, pieces[-1]
