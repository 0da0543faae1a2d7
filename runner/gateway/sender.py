import asyncio
import functools
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec

from runner.gateway.allowance import Allowance, Go, Reservation, Wish
from runner.gateway.asking import Cost, Failure, Flight, GoneError, Reply
from runner.gateway.providers import Route
from runner.gateway.queue import Queue
from runner.gateway.requests import Asked, is_json, kept_headers
from runner.gateway.store import ERROR, utc
from runner.gateway.tokens import bound_of, data_of, usage_of
from runner.model import Problem
from runner.records.answers import Answer, Failed, Reserved, Sent, Usage

# Bytes of an answer's body.
MOST_OF_AN_ANSWER = 64 * 2**20

# Answers that are recorded because evals use their texts; they cost nothing.
TEXTS = {400, 404, 413, 422}

# Errors of the provider or on the way to it; the gateway retries, because nothing was billed.
RETRIED = {408, 409, 500, 502, 503, 504, 520, 521, 522, 524, 529}

# Refused because of the rate; the request is sent again when the provider says.
LIMITED = 429

# How often a request is tried, and the first pause in between, which doubles. Evals continue
# without the answers that are free, and must not wait half a minute for each without a network.
TRIES = 6
TRIES_OF_FREE = 3
FIRST_PAUSE = 1.0

# Codes with which a provider says that more requests do not help.
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")

# How a complete stream ends; a proxy may properly end one that was cut off.
END = re.compile(
    rb"^(?:data: ?\[DONE\]|event: ?(?:message_stop|response\.(?:completed|incomplete|failed)))",
    re.MULTILINE,
)

# Seconds that a provider may be silent, and that a whole answer may take.
PATIENCE = 600.0
LONGEST = 6 * PATIENCE


class Sender:
    """Sends requests to their providers, and puts the answers on record.

    Args:
        routes: by name.
        queue: the one in which requests wait for their turn.
        tell: is told why no request can succeed any more, such as a key that was refused.
        warn: is told what makes requests slow.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        queue: Queue,
        tell: Callable[[Problem, str], None],
        warn: Callable[[str], None],
    ) -> None:
        self.routes = routes
        self.queue = queue
        self._tell = tell
        self._warn = warn
        timeout = aiohttp.ClientTimeout(total=LONGEST, sock_connect=30, sock_read=PATIENCE)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close the connections to providers."""
        await self._session.close()

    async def fly(self, flight: Flight) -> None:
        """Send a request until it is answered or has failed; the result is in `flight.reply`."""
        try:
            reply = await self._until_answered(flight)
        except (GoneError, asyncio.CancelledError):
            reply = Reply(status=499, body=b"")
        except Failure as failure:
            perhaps_paid = failure.billed is None
            reply = msgspec.structs.replace(failure.reply, perhaps_paid=perhaps_paid)
        except Exception as error:  # noqa: BLE001 - the client that waits must be told
            reply = Reply.final(500, f"the gateway failed: {error!r}", "gateway_error")
        flight.reply.set_result(reply)
        flight.pieces.put_nowait(None)

    async def _until_answered(self, flight: Flight) -> Reply:
        pause = FIRST_PAUSE
        left = TRIES_OF_FREE if flight.asked.is_free else TRIES
        again = False
        while True:
            if not flight.attempt:
                raise GoneError
            queue = self.queue
            reservation = await self._turn(flight, queue, again=again)
            if reservation is None:
                continue
            try:
                return await self._once(flight, queue.allowance, reservation)
            except Failure as failure:
                limited = failure.status == LIMITED and failure.again
                if limited:
                    self._warn(
                        f"{flight.asked.route} limits the rate of {flight.asked.model} (429); its "
                        "requests wait as long as it says"
                    )
                left -= not limited
                if not (failure.again and left) or flight.head.done():
                    raise
            finally:
                queue.ended(reservation)
            flight.sent = False
            again = True
            if not limited:  # else the queue holds it back as long as the provider says
                await asyncio.sleep(pause)
                pause *= 2

    async def _turn(self, flight: Flight, queue: Queue, *, again: bool) -> Reservation | None:
        asked = flight.asked
        path = asked.path.partition("?")[0]
        wish = Wish(
            attempt=flight.attempt,
            route=asked.route,
            model=asked.model,
            bound=bound_of(path, asked.body, asked.content),
        )
        decision = await queue.turn(wish, again=again)
        if decision is None:
            return None
        if isinstance(decision, Go):
            return decision.reservation
        text = f"{decision.what}; {decision.cure}"
        self._tell(decision.why, text)
        reply = Reply.final(402, text, "insufficient_quota", stopped=decision.why)
        raise Failure(reply, status=402, billed=False)

    async def _once(self, flight: Flight, allowance: Allowance, reservation: Reservation) -> Reply:
        store = flight.store
        sent = Sent(
            id=secrets.token_hex(8),
            key=flight.key,
            attempt=flight.attempt,
            sample=flight.sample,
            at=utc(),
            model=flight.asked.model,
            reserved=Reserved(tokens=reservation.tokens, usd=reservation.usd),
            free=flight.asked.is_free,
        )
        flight.sent = True
        try:
            await _put_down(flight, sent)
        except BaseException:
            allowance.cancel(reservation, time.monotonic())
            raise
        began = time.monotonic()
        try:
            reply, tail = await self._exchange(flight, allowance, reservation)
        except Failure as failure:
            _end(allowance, reservation, failure)
            await store.write(
                Failed(
                    id=sent.id, status=failure.status, billed=failure.billed, reason=failure.reason
                )
            )
            raise
        except BaseException as error:
            allowance.settle(reservation, None, time.monotonic())
            await store.write(Failed(id=sent.id, reason=type(error).__name__))
            raise
        usage = usage_of(reply.body) if reply.status < ERROR else Usage()
        usd = allowance.settle(reservation, usage, time.monotonic())
        answer = Answer(
            id=sent.id,
            key=flight.key,
            attempt=flight.attempt,
            sample=flight.sample,
            at=utc(),
            seconds=round(time.monotonic() - began, 3),
            status=reply.status,
            headers=reply.headers,
            body=reply.body.decode(errors="replace"),
            model=sent.model,
            usage=usage,
            usd=usd,
        )
        kept = await store.add(answer, lambda: flight.attempt)
        if tail is not None:
            flight.pieces.put_nowait(tail)
        return msgspec.structs.replace(reply, kept=kept, cost=Cost.of(answer))

    async def _exchange(
        self, flight: Flight, allowance: Allowance, reservation: Reservation
    ) -> tuple[Reply, bytes | None]:
        """Send a request and read all of its answer.

        Returns:
            The answer, and the last piece of a stream, which is held back.
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
                proxy=_proxy_for(route.address),
            ) as response:
                headers = kept_headers(response.headers)
                if response.status != LIMITED:
                    now = time.monotonic()
                    allowance.answered(reservation, response.headers, now, time.time())
                if response.status == 200 and _is_stream(headers):  # noqa: PLR2004 - OK
                    body, tail = await _stream(flight, response, headers)
                    return Reply(status=response.status, headers=headers, body=body), tail
                body = await _whole(response)
                self._check(route, response, headers, body)
                return Reply(status=response.status, headers=headers, body=body), None
        except aiohttp.ClientConnectorError as error:
            text = f"{route.name} cannot be reached: {_why(error)}"
            self._warn(f"{text}; evals that ask it wait and retry")
            raise _no_answer(text, billed=False, again=True, final=asked.is_free) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Its own text contains the provider's address.
            text = f"{route.name} broke off ({type(error).__name__})"
            raise _no_answer(text, billed=None) from error

    def _check(
        self, route: Route, response: aiohttp.ClientResponse, headers: dict[str, str], body: bytes
    ) -> None:
        """Raise a Failure if an answer is not worth keeping."""
        status = response.status
        if status < 300 or status in TEXTS:  # noqa: PLR2004 - the first redirect
            if is_json(body):
                return
            kind = headers.get("content-type", "no content type").partition(";")[0]
            text = f"{route.name} answered {kind} that is not JSON; is its address right?"
            billed = None if status < 300 else False  # noqa: PLR2004 - as above
            raise Failure(Reply.final(424, text, "no_answer"), status=status, billed=billed)
        if status in {401, 403}:
            text = f"{route.name} refused the key ({status}); set {route.key_from} to a valid one"
            self._tell(Problem.KEY, text)
            reply = Reply.final(401, text, "invalid_api_key", stopped=Problem.KEY)
            raise Failure(reply, status=status, billed=False)
        if status == 402 or (status == LIMITED and any(code.encode() in body for code in NO_MONEY)):  # noqa: PLR2004 - HTTP's
            text = f"{route.name} has no money left for this key; add some to the account"
            self._tell(Problem.QUOTA, text)
            reply = Reply.final(402, text, "insufficient_quota", stopped=Problem.QUOTA)
            raise Failure(reply, status=status, billed=False)
        if 300 <= status < 400:  # noqa: PLR2004 - a redirect
            text = f"{route.name} answered with a redirect; correct its address"
            raise Failure(Reply.final(424, text, "no_answer"), status=status, billed=False)
        raise Failure(
            Reply(status=status, headers=headers, body=body),
            status=status,
            billed=False,
            again=status in RETRIED or status == LIMITED,
            headers=response.headers,
        )


@functools.cache
def _proxy_for(address: str) -> str | None:
    """The proxy for an address, according to the environment.

    aiohttp would find it as well, but for each request again, in another thread.
    """
    parts = urlsplit(address)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxy = getproxies().get(parts.scheme)
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def forget_proxies() -> None:
    """Read the environment again, because another run may have another one."""
    _proxy_for.cache_clear()


async def _put_down(flight: Flight, sent: Sent) -> None:
    """Put on record, durably, that a request is sent; GoneError if nobody waits for it."""
    store = flight.store
    await store.describe(flight.key, flight.asked)
    await store.write(sent)
    await store.durable()
    if not flight.attempt:
        await store.write(Failed(id=sent.id, billed=False, reason="nobody waits for it"))
        raise GoneError


def _end(allowance: Allowance, reservation: Reservation, failure: Failure) -> None:
    """Give back what was reserved, unless the request may have been billed."""
    now = time.monotonic()
    if failure.status == LIMITED and failure.again:
        allowance.refused_by_provider(reservation, failure.headers, now, time.time())
    elif failure.billed is False:
        allowance.cancel(reservation, now)
    else:
        allowance.settle(reservation, None, now)


def _why(error: Exception) -> str:
    """Why there is no connection or no answer, in a few words."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno)
    return str(error) or type(error).__name__


def _content(asked: Asked) -> dict[str, str]:
    return {"Content-Type": "application/json"} if asked.body else {}


def _is_stream(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").startswith("text/event-stream")


def _no_answer(
    text: str, *, billed: bool | None, again: bool = False, final: bool = False
) -> Failure:
    reply = Reply.final(502, text, "no_answer")
    if not final:
        reply = msgspec.structs.replace(reply, headers={"content-type": "application/json"})
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
    """Pass on the pieces of a stream, and hold the last one back."""
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
    if not all(map(is_json, data_of(body))):
        raise aiohttp.ClientPayloadError("the stream has events that are not JSON")
    return body, pieces[-1]
