import click

from runner.cli.configuration import ConfiguredCommand
from runner.cli.options import as_json, image


@click.group(epilog="Example: evalset image build")
def command() -> None:
    """Build the eval image, or show what it is made of."""


@command.command(
    cls=ConfiguredCommand,
    epilog="Example: evalset image build --base-image python:3.11-slim-bookworm",
)
@click.option("--base-image", help="Base to pull or use.  [default: found by itself]")
@click.option("--rebuild", is_flag=True, help="Build even if the same image is there.")
@image
def build(*, image: str, base_image: str | None, rebuild: bool) -> None:
    """Build the image with openai/evals; needs no image registry.

    Where no image registry can be reached, the base is made from Debian's packages. Nothing is
    built when the same image is there.
    """
    from runner.pipeline.imaging import build_image  # noqa: PLC0415 - after parsing

    build_image(image, base_image=base_image, rebuild=rebuild, tell=click.echo)


@command.command(cls=ConfiguredCommand, epilog="Example: evalset image show --json")
@image
@as_json
def show(*, image: str, as_json: bool) -> None:
    """Show an image's id, fingerprint and versions."""
    from runner.pipeline.imaging import image_facts  # noqa: PLC0415 - after parsing

    facts = image_facts(image)
    if as_json:
        import msgspec  # noqa: PLC0415 - only when asked for

        click.echo(msgspec.json.encode(facts).decode())
        return
    for name, value in facts.items():
        click.echo(f"{name}: {value}")
