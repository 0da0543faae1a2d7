from pathlib import Path

import click

from runner.cli.configuration import ConfiguredCommand
from runner.cli.options import as_json, image, progress_dir, registry_path


@click.command(cls=ConfiguredCommand, epilog="Example: evalset doctor")
@image
@registry_path
@progress_dir
@as_json
def command(
    *, image: str, registry_path: tuple[str, ...], progress_dir: Path, as_json: bool
) -> int:
    """Check engine, image, registry, disk and Git, and say what to do; exit 3 if one fails."""
    import msgspec  # noqa: PLC0415 - after parsing

    from runner.pipeline.doctor import examine  # noqa: PLC0415 - only when asked for

    checks = examine(image=image, registry_paths=registry_path, progress_dir=progress_dir)
    if as_json:
        click.echo(msgspec.json.encode(checks).decode())
    else:
        for check in checks:
            mark = click.style("ok  ", fg="green") if check.ok else click.style("FAIL", fg="red")
            click.echo(f"{mark} {check.name}: {check.found}")
            if check.cure:
                click.echo(f"     {check.cure}")
    return 0 if all(check.ok for check in checks) else 3
