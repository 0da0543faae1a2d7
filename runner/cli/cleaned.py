from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runner.pipeline.clean import Cleaned


def show_cleaned(cleaned: "Cleaned") -> None:
    """Print a line for each eval that was recorded or killed."""
    for name in cleaned.recorded:
        click.echo(f"recorded {name}, which had ended")
    for name in cleaned.killed:
        click.echo(f"killed {name}, which was running")


def show_held(cleaned: "Cleaned") -> None:
    """Print what was left alone."""
    for line in cleaned.held:
        click.echo(f"left alone: {line}", err=True)
