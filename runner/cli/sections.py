from collections.abc import Mapping
from typing import Any

import click


class SectionedCommand(click.Command):
    """A command whose help shows its options below several headings."""

    def __init__(self, *args: Any, sections: Mapping[str, str], **settings: Any) -> None:  # noqa: ANN401 - click's
        """Take what a command takes.

        Args:
            args: for click.
            sections: headings, each by the name of the first option below it.
            settings: for click.
        """
        super().__init__(*args, **settings)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        found: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for param in self.get_params(ctx):
            heading = self.sections.get(param.name or "", heading)
            if param is self.get_help_option(ctx):
                heading = "Other"
            record = param.get_help_record(ctx)
            if isinstance(param, click.Option) and record:
                found.setdefault(heading, []).append(record)
        for heading, records in found.items():
            with formatter.section(heading):
                formatter.write_dl(records)
