import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import click

from runner.commands.command_line import evalset_command
from runner.errors import UsageError
from runner.files import named
from runner.parameters import Argument

TEMPLATE = Path(__file__).parents[1] / "template"

# What is in the eval image, and in the images on top of it.
LOCKS = [Path(__file__).parents[1] / f"image/{name}.lock" for name in ("image", "ml", "ml.x86_64")]

# Modules of these images that are not called as their packages are.
OTHERWISE = {"absl", "attr", "cuda", "dateutil", "markdown_it", "nvidia", "pkg_resources", "py"}
OTHERWISE |= {"sklearn", "yaml"}


def taken() -> frozenset[str]:
    """Names that evals import from elsewhere: Python's own modules, and those of our images."""
    locked = "".join(lock.read_text("utf-8") for lock in LOCKS)
    packages = re.findall(r"^([a-z0-9._-]+)==", locked, re.MULTILINE)
    return sys.stdlib_module_names | OTHERWISE | {re.sub(r"[-.]", "_", it) for it in packages}


def make(folder: Path) -> None:
    """Make a folder with an eval, its class and samples, and a completion function.

    Its name is that of the eval and, with underscores, that of the package.

    Raises:
        UsageError: no package can have that name, or something has it.
        EnvironmentFault: it cannot be written.
    """
    name = folder.absolute().name
    package = name.replace("-", "_")
    is_taken = package in taken()
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name) or is_taken:
        why = "is a module that evals need" if is_taken else "cannot be the name of a package"
        raise UsageError(
            f"`{name}` {why}", "choose one of small letters, digits and hyphens, such as my-evals"
        )
    if folder.exists():
        raise UsageError(f"{folder} is already there", "choose another name, or remove it")
    with (
        named(folder, "create", option="name"),
        tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=f".{name}-") as place,
    ):
        whole = Path(place, name)
        for source in sorted(path for path in TEMPLATE.rglob("*") if path.is_file()):
            below = str(source.relative_to(TEMPLATE))
            if "__pycache__" in below:
                continue
            target = whole / _filled(below, name, package)
            if target.name == "gitignore":  # a checkout of ours must not obey it
                target = target.with_name(".gitignore")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_filled(source.read_text("utf-8"), name, package), "utf-8")
        shutil.move(whole, folder)


def _filled(text: str, name: str, package: str) -> str:
    return text.replace("MY_NAME", name).replace("MY_PACKAGE", package)


@evalset_command("evalset new my-evals")
def command(*, name: Annotated[str, Argument()]) -> None:
    """Make a folder with an eval, its class, samples and a model of your own, to start from.

    NAME may be a path; its last part is the name of the eval. All of it runs as it is: README.md in
    the folder says how.
    """
    folder = Path(name)
    make(folder)
    eval_name = folder.absolute().name
    click.echo(f"made {folder}; try it:")
    click.echo(f"  cd {folder}")
    click.echo(f"  evalset run dummy {eval_name}")
    click.echo(f"  evalset run {eval_name}-calculator {eval_name}")
