import click

from runner.cli.configuration import ConfiguredCommand
from runner.plan.grammar import split

# Options that upstream has, too: its own parser takes these.
UPSTREAM = ("registry_path", "resume", "exit_on_error")


class PassThroughCommand(ConfiguredCommand):
    """A command whose line is taken apart by upstream's grammar before click sees it."""

    knows_every_key = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hand click our options, and everything that is passed on behind a `--`."""
        if not args and not ctx.resilient_parsing:
            raise click.exceptions.NoArgsIsHelpError(ctx)
        if not ctx.resilient_parsing:
            args = self._in_order(args)
        return super().parse_args(ctx, args)

    def our_options(self) -> dict[str, int]:
        """Every spelling of an option that is ours alone, with its number of values."""
        return {
            spelling: 0 if param.is_flag else 1
            for param in self.params
            if isinstance(param, click.Option) and param.name not in UPSTREAM
            for spelling in (*param.opts, *param.secondary_opts)
        }

    def _in_order(self, args: list[str]) -> list[str]:
        found = split(args, self.our_options())
        line = list(found.ours)
        for path in found.registry_paths:
            line += ["--registry-path", path]
        for option, value in (("resume", found.resume), ("exit-on-error", found.exit_on_error)):
            if value is not None:
                line.append(f"--{option}" if value else f"--no-{option}")
        return [*line, "--", found.model, found.eval_set, *found.passed_through]
