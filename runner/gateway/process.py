"""What the gateway's process asks of the system."""

import gc
import logging
import resource

from aiohttp import ClientPayloadError
from aiohttp.http import HttpProcessingError


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
