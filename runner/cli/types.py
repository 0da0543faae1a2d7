from typing import Any

import click

from runner.errors import UsageError
from runner.plan.units import parse_duration, parse_memory


class Memory(click.ParamType):
    """An amount of memory, such as `4g`; its value is in bytes."""

    name = "amount"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,  # noqa: ANN401 - click's
    ) -> int:
        """Read it as Docker does."""
        try:
            return parse_memory(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType):
    """A duration, such as `1h30m`; its value is in seconds."""

    name = "duration"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,  # noqa: ANN401 - click's
    ) -> float:
        """Read it."""
        try:
            return parse_duration(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


MEMORY = Memory()
DURATION = Duration()
