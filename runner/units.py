"""Amounts as people type them: what is none raises a `UsageError` that names it."""

import math
import re
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

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
    try:
        cpus = float(str(value))
    except ValueError:
        cpus = 0
    if not LEAST_CPUS <= cpus < math.inf:
        raise UsageError(f"`{value}` is not a number of CPUs of at least {LEAST_CPUS}")
    return cpus


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


Unit = Literal["tok", "usd"]


class Budget(NamedTuple):
    """What a run may spend on its models, in tokens or in US dollars."""

    amount: float
    unit: Unit


_THOUSANDS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def parse_budget(value: object) -> Budget:
    """Read a budget above zero: `5usd` or `0.5usd`, or tokens as `2000tok`, `500ktok`, `2mtok`."""
    text = str(value).strip().lower()
    found = re.fullmatch(r"(-?[0-9]{1,15}(?:\.[0-9]{1,6})?) ?(?:(usd)|([kmg]?)tok)", text)
    if found is None:
        raise UsageError(f"budget `{value}` is not an amount such as 5usd, 500ktok or 2mtok")
    if found[2]:
        budget = Budget(float(found[1]), "usd")
    else:
        budget = Budget(round(float(found[1]) * _THOUSANDS[found[3]]), "tok")
    if budget.amount <= 0:
        raise UsageError(f"budget `{value}` must be above zero")
    return budget


def show_budget(budget: Budget) -> str:
    """The shortest text that `parse_budget` reads as this budget: `5usd`, `2mtok`."""
    if budget.unit == "usd":
        return f"{budget.amount:.6f}".rstrip("0").rstrip(".") + "usd"
    for unit in "gmk":
        if budget.amount % _THOUSANDS[unit] == 0:
            return f"{budget.amount // _THOUSANDS[unit]:.0f}{unit}tok"
    return f"{budget.amount:.0f}tok"


def amount_in_words(amount: float, unit: Unit) -> str:
    """An amount of a budget as a sentence has it: `0.5 US dollars`, `4,537 tokens`."""
    if unit == "usd":
        return f"{amount:.6f}".rstrip("0").rstrip(".") + " US dollars"
    return f"{amount:,.0f} tokens"


class Rate(NamedTuple):
    """The most of something in a minute, of one model or, where `model` is empty, of all."""

    model: str
    limit: int


def parse_rate(value: object) -> Rate:
    """Read a limit a minute, `100`, or that of one model, `gpt-4=100`.

    A model's name may have a `=` in it, but not end like a limit of its own, as in `gpt-4=5=6`.
    """
    model, equals, limit = str(value).rpartition("=")
    model = model.strip()
    good = re.fullmatch(r" *[1-9][0-9]{0,14} *", limit) and bool(equals) == bool(model)
    if not good or re.search(r"= *[0-9]*$", model):
        raise UsageError(f"rate `{value}` must be a number above zero, or MODEL=NUMBER")
    return Rate(model, int(limit))


class Upstream(NamedTuple):
    """A provider of models that evalset has no name for: its name, and its address."""

    name: str
    address: str


def parse_upstream(value: object) -> Upstream:
    """Read `NAME=URL`; the message repeats no address, which may hold a password."""
    name, equals, address = str(value).partition("=")
    if not equals or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(
            "an upstream is NAME=URL, with small letters, digits and hyphens in the name",
            "give it like `groq=https://api.groq.com/openai/v1`",
        )
    try:
        parts = urlsplit(address)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # such as a port that is no number
        good = False
    if not good or re.search(r"[\s\x00-\x1f\x7f]", address):
        raise UsageError(
            f"the address of the upstream `{name}` is not a URL",
            "begin it with https:// or http:// and a host",
        )
    if parts.username is not None or parts.query or parts.fragment:
        variable = f"{name.upper().replace('-', '_')}_API_KEY"
        raise UsageError(
            f"the address of the upstream `{name}` has more than a host and a path in it",
            f"leave the rest out, and export the key as {variable}",
        )
    return Upstream(name, address.rstrip("/"))
