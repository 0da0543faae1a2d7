from pathlib import Path

import click

from runner.cli.cleaned import show_cleaned, show_held
from runner.cli.configuration import ConfiguredCommand
from runner.cli.options import as_json, progress_dir


@click.command(cls=ConfiguredCommand, epilog="Example: evalset clean --progress-dir progress")
@progress_dir
@as_json
def command(*, progress_dir: Path, as_json: bool) -> int:
    """Remove the containers that killed runs left; record those that had finished.

    Only containers of this progress directory are touched, and none that a live run holds. An
    eval that still runs is killed: to let it finish, use `evalset run` instead, which goes on
    with it.
    """
    import msgspec  # noqa: PLC0415 - after parsing

    from runner.pipeline.clean import clean  # noqa: PLC0415 - only when asked for
    from runner.pipeline.command import new_id  # noqa: PLC0415 - only when asked for
    from runner.pipeline.prepare import this_host  # noqa: PLC0415 - only when asked for

    cleaned = clean(progress_dir, this_host(), new_id=new_id)
    if as_json:
        click.echo(msgspec.json.encode(cleaned).decode())
    else:
        show_cleaned(cleaned)
        click.echo(f"containers removed: {cleaned.removed}")
    show_held(cleaned)
    return 3 if cleaned.held else 0
