"""What an error of Python's says, and what it means where an import raises it.

Part of the program that runs in an eval image: Python 3.9, and its standard library alone.
"""

from __future__ import annotations

import errno
import re
import traceback

TYPE_CHECKING = False  # typing's own would cost some milliseconds
if TYPE_CHECKING:
    from typing import Any

    Finding = dict[str, Any]

# What an import raises that reaches for a network which is not there.
NO_NETWORK = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ECONNREFUSED, errno.ETIMEDOUT}
)
UNREACHED = frozenset(
    {
        "APIConnectionError",
        "ClientConnectorError",
        "ConnectError",
        "ConnectTimeout",
        "ConnectionError",
        "LocalEntryNotFoundError",
        "MaxRetryError",
        "NewConnectionError",
        "OfflineModeIsEnabled",
        "gaierror",
    }
)


def told(error: BaseException) -> Finding:
    """The last line of a traceback, and where it was raised."""
    lines = traceback.format_exception_only(type(error), error)
    said = " ".join(lines[-1].split()) if lines else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    where = f"{last.filename}:{last.lineno}" if last and last.filename[:1] == "/" else ""
    return {"said": said[:500], "where": where}


def import_problem(error: BaseException, reference: str) -> Finding:
    """Why the import of a class failed."""
    said = told(error)
    if isinstance(error, SystemExit):
        return {"kind": "exits", **said}
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        own = package == re.split("[.:]", reference)[0] != "evals"
        return {"kind": "own_module" if own else "module", "module": error.name, **said}
    cause: BaseException | None = error
    for _ in range(20):
        if cause is None:
            break
        names = {each.__name__ for each in type(cause).__mro__}
        if names & UNREACHED or (isinstance(cause, OSError) and cause.errno in NO_NETWORK):
            return {"kind": "network", **said}
        cause = cause.__cause__ or cause.__context__
    return {"kind": "import", **said}
