"""What the gateway's process asks of the system."""

import gc
import logging
import os
import resource
import socket
from contextlib import suppress
from pathlib import Path

from aiohttp import ClientPayloadError
from aiohttp.http import HttpProcessingError


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


def keep_quiet() -> None:
    """Do not log requests that are not HTTP, because a program could fill the disk with them."""

    def is_ours(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, (HttpProcessingError, ClientPayloadError))

    logging.getLogger("aiohttp.server").addFilter(is_ours)


def raise_limits() -> None:
    """Allow as many connections as the system lets this process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def avoid_pauses() -> None:
    """Collect garbage rarely, because modules and answers on record never are garbage."""
    gc.freeze()
    gc.set_threshold(50_000)
