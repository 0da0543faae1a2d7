from typing import Annotated, Literal

import click
import msgspec

from runner.commands.command_line import evalset_command
from runner.commands.group import Group
from runner.engine.engine import Engine
from runner.host import this_host
from runner.image.added import clean_images
from runner.image.build import build_extra, build_image
from runner.image.image import FINGERPRINT, builtin_registry, find_image, own_fingerprint
from runner.options import DEFAULT_IMAGE, NAME, AsJson, Image
from runner.parameters import Option

Extra = Literal["ml"]


@click.group(cls=Group, epilog="Example: evalset image build")
def command() -> None:
    """Build the eval image, or show what it is made of."""


@evalset_command("evalset image build --base-image python:3.11-slim-bookworm", group=command)
def build(
    *,
    base_image: Annotated[
        str | None,
        Option(
            "Base image to pull or use.", NAME, configurable=False, default="chosen automatically"
        ),
    ] = None,
    extra: Annotated[
        Extra | None,
        Option("Also build the image for evals that need this, on top.", configurable=False),
    ] = None,
    rebuild: Annotated[
        bool, Option("Build even if the same image is there.", configurable=False)
    ] = False,
    image: Image = DEFAULT_IMAGE,
) -> None:
    """Build the image with openai/evals; needs no image registry.

    Where no image registry can be reached, the base is made from Debian's packages. Nothing is
    built when the same image is there.

    `--extra ml` also builds the image with torch, in which a run starts those evals that need it.
    It takes 6 GB more.
    """
    engine = Engine()
    built = build_image(
        engine.api, tag=image, base_image=base_image, rebuild=rebuild, tell=click.echo
    )
    if extra is not None:
        build_extra(engine.api, extra, eval_image=image, rebuild=rebuild, tell=click.echo)
    # So that the first run starts fast.
    builtin_registry(engine, built, this_host())
    engine.make_eval_network()


@evalset_command("evalset image clean", group=command)
def clean(*, as_json: AsJson = False) -> None:
    """Remove the images that --requirements made, unless a container uses them.

    The next run makes its image again, with the newest packages that its requirements allow, unless
    a finished eval of it had others.
    """
    cleaned = clean_images(Engine().api, this_host())
    if as_json:
        click.echo(msgspec.json.encode(cleaned).decode())
        return
    for name in cleaned.removed:
        click.echo(f"removed {name}")
    for name in cleaned.used:
        click.echo(f"left alone: {name}, which a run or a container uses")
    click.echo(f"images removed: {len(cleaned.removed)}")


@evalset_command("evalset image show --json", group=command)
def show(*, image: Image = DEFAULT_IMAGE, as_json: AsJson = False) -> None:
    """Show an image's id, fingerprint and versions."""
    api = Engine().api
    found = find_image(api, image)
    fingerprint = own_fingerprint(api, found)
    facts = {
        "name": found.name,
        "id": found.id,
        "digest": found.digest,
        "fingerprint": fingerprint,
        **dict(sorted(found.labels.items())),
    }
    if fingerprint is None:  # the label is that of the image that this one was built on
        facts.pop(FINGERPRINT, None)
    if as_json:
        click.echo(msgspec.json.encode(facts).decode())
        return
    for name, value in facts.items():
        if value is not None:
            click.echo(f"{name}: {value}")
