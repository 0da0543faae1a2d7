import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from runner.errors import UsageError, did_you_mean
from runner.model import ContainerSettings
from runner.registry.entries import RegistryFile, parse_mapping
from runner.registry.resolve import matching
from runner.units import parse_duration, parse_gpus, parse_memory, parse_tmp_limit


class ContainerRule(msgspec.Struct, frozen=True, kw_only=True):
    """What the containers of some evals get.

    Attributes:
        pattern: of the evals' resolved keys.
        values: fields of `ContainerSettings` by name, valid.
    """

    pattern: str
    values: dict[str, Any]


def parse_rules(files: Sequence[RegistryFile]) -> tuple[ContainerRule, ...]:
    """Read `containers/*.yaml`, each a mapping of an eval pattern to settings.

    Raises:
        UsageError: naming the file, the pattern and the key that is unknown or has a bad value.
    """
    return tuple(
        ContainerRule(pattern=pattern, values=_values(file.path, pattern, given))
        for file in files
        for pattern, given in parse_mapping(file.path, file.text).items()
    )


def settings_for(
    eval: str,  # noqa: A002 - upstream's word, and ours
    *,
    defaults: ContainerSettings,
    rules: Sequence[ContainerRule],
    explicit: frozenset[str] = frozenset(),
) -> ContainerSettings:
    """Give one eval's settings: the defaults, then each rule that matches, in order, key by key.

    Environment names add up; every other key replaces what stood there.

    Args:
        eval: the resolved key.
        defaults: what evals get that no rule speaks of.
        rules: in order; the later ones win.
        explicit: fields that the command line gives: no rule changes them.
    """
    changes: dict[str, Any] = {}
    env = list(defaults.env)
    for rule in rules:
        if matching(rule.pattern, (eval,)):
            changes |= {key: value for key, value in rule.values.items() if key not in explicit}
            env.extend(rule.values.get("env", ()))
    if not changes and len(env) == len(defaults.env):
        return defaults
    return msgspec.structs.replace(defaults, **(changes | {"env": tuple(dict.fromkeys(env))}))


def _values(path: str, pattern: str, given: object) -> dict[str, Any]:
    where = f"{path}: `{pattern}`"
    if not isinstance(given, dict):
        raise UsageError(f"{where} must be a mapping of settings, such as `memory: 2g`")
    values = {}
    for key, value in given.items():
        if key not in _READERS:
            hint = did_you_mean(str(key), _READERS) or f"; known are {', '.join(_READERS)}"
            raise UsageError(f"{where} has the unknown key `{key}`{hint}")
        try:
            values[key] = _READERS[key](value)
        except UsageError as error:
            raise UsageError(f"{where}: `{key}`: {error}") from None
    return values


def _text(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\w][^\s]*", value):
        raise UsageError(f"`{value}` is not a name")
    return value


def _memory(value: object) -> int:
    if not isinstance(value, str | int | float):
        raise UsageError(f"`{value}` is not an amount such as 512m or 4g")
    return parse_memory(value)


def _tmp_limit(value: object) -> int:
    if not isinstance(value, str | int | float):
        raise UsageError(f"`{value}` is not an amount such as 512m or 4g")
    return parse_tmp_limit(value)


def _cpus(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"`{value}` is not a number of CPUs such as 2 or 0.5")
    if not 0 < value < math.inf:
        raise UsageError(f"`{value}` must be above zero")
    return float(value)


def _pids_limit(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"`{value}` is not a number of processes above zero")
    return value


def _gpus(value: object) -> str | None:
    if value is None:
        return None
    return parse_gpus(str(value).lower() if isinstance(value, bool) else str(value))


def _timeout(value: object) -> float:
    if not isinstance(value, str | int | float):
        raise UsageError(f"`{value}` is not a duration such as 90s or 1h30m")
    return parse_duration(value)


def _env(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UsageError("must be a list of environment variable names")
    for index, name in enumerate(value):
        # the entry itself may hold a secret
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UsageError(
                f"entry {index + 1} is not the name of an environment variable; values are taken "
                "from the host's environment, never from a file"
            )
    return tuple(value)


_READERS: dict[str, Callable[[object], Any]] = {
    "image": _text,
    "memory": _memory,
    "cpus": _cpus,
    "pids_limit": _pids_limit,
    "gpus": _gpus,
    "timeout": _timeout,
    "tmp_limit": _tmp_limit,
    "network": _text,
    "env": _env,
}
