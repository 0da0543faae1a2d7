import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import msgspec

from runner.errors import UsageError, did_you_mean
from runner.model import ContainerSettings, Setting
from runner.options import options_of_run
from runner.registry.entries import RegistryFile, parse_mapping
from runner.registry.resolve import names_matching


class ContainerRule(msgspec.Struct, frozen=True, kw_only=True):
    """What the containers of some evals get.

    Attributes:
        pattern: of the evals' resolved keys.
        settings: values for fields of `ContainerSettings`, by name, without `env` and `code`.
        code: folders with Python code, absolute.
    """

    pattern: str
    settings: dict[str, Setting]
    env: tuple[str, ...]
    code: tuple[str, ...] = ()


def parse_rules(files: Sequence[RegistryFile]) -> tuple[ContainerRule, ...]:
    """Read `containers/*.yaml`, each a mapping of an eval pattern to settings.

    Relative paths in a file start at its registry folder.

    Raises:
        UsageError: a key is unknown or has a bad value; it names file, pattern and key.
    """
    return tuple(
        _parse_rule(file.path, pattern, given)
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
    """One eval's settings: the defaults, then each rule that matches, in order, key by key.

    Environment names and folders of code add up; every other key replaces the value before.

    Args:
        explicit: fields that the command line gives, which no rule changes.
    """
    matched = [rule for rule in rules if names_matching(rule.pattern, (eval,))]
    if not matched:
        return defaults
    changes = {name: value for rule in matched for name, value in rule.settings.items()}
    env = dict.fromkeys((*defaults.env, *(name for rule in matched for name in rule.env)))
    code = dict.fromkeys((*defaults.code, *(folder for rule in matched for folder in rule.code)))
    return msgspec.structs.replace(
        defaults,
        env=tuple(env),
        code=tuple(code),
        **{name: value for name, value in changes.items() if name not in explicit},
    )


def _parse_rule(path: str, pattern: str, given: object) -> ContainerRule:
    where = f"{path}: `{pattern}`"
    if not isinstance(given, dict):
        raise UsageError(f"{where} must be a mapping of settings, such as `memory: 2g`")
    settings: dict[str, Setting] = {}
    env: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    for key, value in given.items():
        if key not in KEYS:
            hint = did_you_mean(str(key), KEYS) or f"known are {', '.join(KEYS)}"
            raise UsageError(f"{where} has the unknown key `{key}`", hint)
        try:
            if key == "env":
                env = _parse_env(value)
            elif key == "code":
                code = tuple(_path(path, folder) for folder in _parse_folders(value))
            elif value is None and type(None) in get_args(ContainerSettings.__annotations__[key]):
                settings[key] = None
            elif key == "requirements":
                settings[key] = _path(path, _parse_path(value))
            else:
                kind = options_of_run()[key].kind
                settings[key] = kind.read(str(value)) if kind and kind.read else _parse_name(value)
        except UsageError as error:
            raise UsageError(f"{where}: `{key}`: {error.what}", error.cure) from None
    return ContainerRule(pattern=pattern, settings=settings, env=env, code=code)


def _parse_name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\w\S*", value):
        raise UsageError(f"`{value}` is not a name")
    return value


def _parse_env(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UsageError("must be a list of environment variable names")
    for index, name in enumerate(value, start=1):
        # the entry itself may contain a secret
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UsageError(
                f"entry {index} is not the name of an environment variable",
                "values are taken from the host's environment, never from a file",
            )
    return tuple(value)


def _parse_folders(value: object) -> list[str]:
    if not isinstance(value, list):
        raise UsageError("must be a list of folders", "put [ ] around it")
    return [_parse_path(each) for each in value]


def _parse_path(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise UsageError(f"`{value}` is not a path", "give one as text")
    return value


def _path(file: str, path: str) -> str:
    """A path that a file of rules names, absolute."""
    above = Path(file).parent
    registry = above.parent if above.name == "containers" else above
    return os.path.abspath(registry / path)  # noqa: PTH100 - links stay as typed


# The keys that a rule may have.
KEYS = ContainerSettings.__struct_fields__
