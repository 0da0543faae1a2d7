"""Amounts as people type them: what is none raises a `UsageError` that names it."""

import math
import re

from runner.errors import UsageError

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# Docker refuses to create a container with less.
LEAST_MEMORY = 6 * 1024**2
LEAST_CPUS = 0.01

# Too little for the logs that every eval writes.
LEAST_TMP = 1024**2


def parse_size(value: object, *, what: str = "size") -> int:
    """Read an amount, `50m`, `1.5g`, or a number of bytes, as bytes."""
    text = str(value).strip().lower()
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmgt])(?:i?b)?|b)?", text)
    if found is None:
        raise UsageError(f"{what} `{value}` is not an amount such as 512m or 4g")
    return int(float(found[1]) * 1024 ** _POWERS[found[2] or ""])


def parse_memory(value: object) -> int:
    """Read an amount of memory, in bytes, as Docker does."""
    amount = parse_size(value, what="memory")
    if amount < LEAST_MEMORY:
        raise UsageError(f"memory `{value}` is less than Docker's minimum, 6m")
    return amount


def parse_tmp_limit(value: object) -> int:
    """Read how much an eval may have in its `/tmp`, in bytes."""
    amount = parse_size(value)
    if amount < LEAST_TMP:
        raise UsageError(f"size `{value}` is too little for an eval's logs", "give at least 1m")
    return amount


def parse_duration(value: object) -> float:
    """Read a duration above zero, `90s`, `1h30m`, `1.5h`, or a number of seconds, in seconds."""
    text = str(value).strip().lower()
    parts = re.findall(r"([0-9.]+)([dhms])", text)
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        seconds = float(text)
    elif re.fullmatch(r"([0-9]+(\.[0-9]+)?[dhms] ?)+", text) and len(parts) == len(
        {unit for _, unit in parts}
    ):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    else:
        raise UsageError(f"duration `{value}` must be like 90s or 1h30m, or a number of seconds")
    if not 0 < seconds < math.inf:
        raise UsageError(f"duration `{value}` must be above zero")
    return seconds


def parse_cpus(value: object) -> float:
    """Read a number of CPUs, such as `2` or `0.5`."""
    text = str(value)
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or not LEAST_CPUS <= float(text) < math.inf:
        raise UsageError(f"`{value}` is not a number of CPUs such as 2 or 0.5")
    return float(text)


def parse_pids_limit(value: object) -> int:
    """Read a number of processes above zero."""
    if not re.fullmatch(r"[1-9][0-9]{0,17}", str(value)):
        raise UsageError(f"`{value}` is not a number of processes above zero")
    return int(str(value))


def parse_pause(value: str | float) -> float:
    """Read a duration that may be none at all: `0`."""
    return 0.0 if str(value) in {"0", "0s"} else parse_duration(value)


def show_size(count: int) -> str:
    """The shortest text that `parse_size` reads as this number of bytes: `4g`, `50m`."""
    for unit in "tgmk":
        if count and count % 1024 ** _POWERS[unit] == 0:
            return f"{count // 1024 ** _POWERS[unit]}{unit}"
    return str(count)


def show_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as this many seconds: `1h`, `90s`."""
    for unit in "hm":
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]:g}{unit}"
    return f"{seconds:g}s"


def parse_gpus(value: object) -> str:
    """Check which GPUs are asked for, in the form of `docker run --gpus`."""
    text = str(value)
    if not re.fullmatch(r"all|[1-9][0-9]*|device=[\w,:-]+", text):
        raise UsageError(f"GPUs `{text}` must be `all`, a number, or `device=ID,...`")
    return text
