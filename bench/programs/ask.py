"""Asks for chat answers from many clients at once; prints the seconds of all, then of each.

Arguments: a port on 127.0.0.1 or the path of a Unix socket, the path to ask for, clients, requests
of each, `new` or `kept` connections, seconds over which the clients begin, and a word for prompts.
"""

import asyncio
import json
import sys
import time

from tests.provider import KEY

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected(where: str) -> Connection:
    """A new connection."""
    if where.isdigit():
        return await asyncio.open_connection("127.0.0.1", int(where))
    return await asyncio.open_unix_connection(where)


async def asked(connection: Connection, path: str, prompt: str) -> None:
    """One request and all of its answer."""
    reader, writer = connection
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    status, *headers = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    if b" 200 " not in status:
        raise SystemExit(status)
    (size,) = (line.split(b":")[1] for line in headers if line.startswith(b"content-length:"))
    await reader.readexactly(int(size))


async def client(arguments: list[str], number: int) -> list[float]:
    """All requests of one client; gives the seconds of each."""
    where, path, clients, count, keeps, spread, word = arguments
    await asyncio.sleep(float(spread) * number / int(clients))
    took = []
    kept = await connected(where) if keeps == "kept" else None
    for each in range(int(count)):
        began = time.perf_counter()
        connection = kept or await connected(where)
        await asked(connection, path, f"{word} {number} {each}")
        took.append(time.perf_counter() - began)
        if kept is None:
            connection[1].close()
    return took


async def main(arguments: list[str]) -> None:
    """Let all clients ask."""
    began = time.perf_counter()
    took = await asyncio.gather(*(client(arguments, one) for one in range(int(arguments[2]))))
    print(time.perf_counter() - began, *(seconds for each in took for seconds in each))


asyncio.run(main(sys.argv[1:]))
