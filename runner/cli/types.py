import click

from runner.errors import UsageError
from runner.plan.units import parse_duration, parse_gpus, parse_memory, parse_size, parse_tmp_limit


def amount(value: str) -> int:
    """Read an amount of memory, such as `4g`, into bytes, for an option's `type`."""
    try:
        return parse_memory(value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def size(value: str) -> int:
    """Read a number of bytes, such as `50m`, for an option's `type`."""
    try:
        return parse_size(value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def none_or_size(value: str) -> int:
    """Read a number of bytes, or that there is to be none."""
    return 0 if value == "0" else size(value)


def tmp_limit(value: str) -> int:
    """Read how much an eval may have in its `/tmp`, such as `10g`, into bytes."""
    try:
        return parse_tmp_limit(value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def duration(value: str) -> float:
    """Read a duration, such as `1h30m`, into seconds, for an option's `type`."""
    try:
        return parse_duration(value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def pause(value: str) -> float:
    """Read a duration that may be none at all."""
    return 0.0 if value in {"0", "0s"} else duration(value)


def gpus(value: str) -> str:
    """Check which GPUs are asked for."""
    try:
        return parse_gpus(value)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None
