import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def now() -> str:
    """The time, UTC, RFC 3339 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def stamp() -> str:
    """This moment on a clock that nobody sets, for another process of this host to compare."""
    return f"{_boot()} {time.monotonic():.3f}"


def since(stamped: str) -> float | None:
    """Seconds since a moment; None if it was before the host's last start, or on another host."""
    boot, _, moment = stamped.partition(" ")
    try:
        passed = time.monotonic() - float(moment)
    except ValueError:
        return None
    return passed if boot == _boot() and passed >= 0 else None


@cache
def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:  # not on Linux
        return "unknown"
