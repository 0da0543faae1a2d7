import click

from runner.errors import did_you_mean


class Group(click.Group):
    """A group of commands that lists each with the whole line that says what it is for."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or say which it may have been."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-") and not ctx.resilient_parsing:
            hint = did_you_mean(args[0], names)
            raise click.UsageError(f"No such command {args[0]!r}{hint and f'; {hint}'}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands; click would cut the lines off."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.purpose(name)) for name in self.list_commands(ctx)])

    def purpose(self, name: str) -> str:
        """What a command is for: the first line of its help."""
        return (self.commands[name].help or "").partition("\n")[0]
