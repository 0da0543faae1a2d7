import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from docker.errors import ImageNotFound

import runner
from runner.engine.image_probe import ask
from runner.image.image import Image
from tests.conftest import engine_api
from tests.images import with_small_recipe
from tests.packaging.conftest import BIN, ROOT, Desk
from tests.report.site.example import write_example

# They build a release and install it several times.
pytestmark = pytest.mark.slow

VERSION = f"evalset {runner.__version__}\n"
MADE = "evalset/test:from-the-wheel"

# A package of the eval image, with its hashes.
SNIFFIO = re.compile(r"^sniffio==(?:.*\\\n)+.*\n", re.MULTILINE)

# A program of a user's, with one mistake.
USING = """
from runner.oaievalset import OaiEvalSetArguments, Progress, get_parser

progress = Progress("file")
args = get_parser().parse_args(["m", "s"], OaiEvalSetArguments())
reveal_type(progress.completed)
reveal_type(args.registry_path)
progress.add(1)
"""
MISTAKE = (
    'error: Argument 1 to "add" of "Progress" has incompatible type "int"; expected "list[str]"'
)


def editable_from_checkout(folder: Path) -> list[Path]:
    """Files below a folder by which Python would look into the checkout."""
    return [path for path in folder.rglob("*.pth") if str(ROOT) in path.read_text()]


@pytest.fixture
def made() -> Iterator[str]:
    """A name for an image that is gone after the test."""
    yield MADE
    with suppress(ImageNotFound):
        engine_api().remove_image(MADE)


def test_both_programs_run_without_the_checkout(installed: Path, desk: Desk) -> None:
    """From an environment that has the wheel alone."""
    assert desk.run(installed / "evalset", "--version") == VERSION
    assert desk.run(installed / "python", "-m", "runner", "--version") == VERSION
    assert "usage: oaievalset" in desk.run(installed / "oaievalset", "--help")
    where = desk.run(installed / "python", "-c", "import runner; print(runner.__file__)")
    assert Path(where.strip()).is_relative_to(installed.parent)


@pytest.mark.docker
def test_the_image_is_built_without_the_checkout(
    installed: Path, desk: Desk, eval_image: Image, local_base: str, made: str
) -> None:
    """Of the same parts as from the checkout, so that it finds that one; a small one is built."""
    said = desk.run(installed / "evalset", "image", "build", "--base-image", local_base)
    assert said == f"image: {eval_image.name} is up to date ({eval_image.fingerprint})\n"
    found = desk.run(installed / "python", "-c", "import runner; print(*runner.__path__)")
    lock = SNIFFIO.search((Path(found.strip()) / "image/image.lock").read_text())
    assert lock
    code = with_small_recipe(
        Path(found.strip()), desk.folder / "code", base=local_base, lock=lock[0]
    )
    build = (installed / "evalset", "image", "build", "--image", made)
    assert f"image: built {made} in " in desk.run(*build, PYTHONPATH=str(code))
    wheels = ask(engine_api(), made, ["ls", "/wheels/wheels"]).stdout
    assert wheels.startswith(b"sniffio-")


def test_reports_are_written_without_the_checkout(installed: Path, desk: Desk) -> None:
    """The wheel has the templates and all that the pages show; scipy is not asked for."""
    write_example(desk.folder / "progress", [("aria", 0.8)], samples=3)
    desk.run(installed / "evalset", "report", "aria", "research", "-o", "pages")
    assert (desk.folder / "pages/index.html").stat().st_size > 1000


def test_pipx_installs_it(desk: Desk) -> None:
    """Both programs, from a checkout that is not needed afterwards."""
    home, bins = desk.folder / "home", desk.folder / "bin"
    own = {"PIPX_HOME": str(home), "PIPX_BIN_DIR": str(bins), "PIPX_MAN_DIR": str(home / "man")}
    desk.run(BIN / "python", "-m", "pipx", "install", ROOT, **own)
    assert sorted(path.name for path in bins.iterdir()) == ["evalset", "oaievalset"]
    assert desk.run(bins / "evalset", "--version") == VERSION
    assert editable_from_checkout(home) == []


def test_uv_installs_it(desk: Desk) -> None:
    """As pipx does."""
    tools, bins = desk.folder / "tools", desk.folder / "bin"
    own = {"UV_TOOL_DIR": str(tools), "UV_TOOL_BIN_DIR": str(bins), "UV_PYTHON_DOWNLOADS": "never"}
    desk.run(BIN / "uv", "tool", "install", "--python", BIN / "python", ROOT, **own)
    assert sorted(path.name for path in bins.iterdir()) == ["evalset", "oaievalset"]
    assert desk.run(bins / "evalset", "--version") == VERSION
    assert editable_from_checkout(tools) == []


def test_uvx_runs_it(wheel: Path, desk: Desk) -> None:
    """Each of the two, without installing anything for good."""
    own = {"UV_TOOL_DIR": str(desk.folder / "tools"), "UV_PYTHON_DOWNLOADS": "never"}
    uvx = (BIN / "uvx", "--python", BIN / "python", "--from", wheel)
    assert desk.run(*uvx, "evalset", "--version", **own) == VERSION
    assert "engine" in desk.run(*uvx, "evalset", "doctor", **own)
    assert "usage: oaievalset" in desk.run(*uvx, "oaievalset", "--help", **own)


def test_mypy_sees_the_types_of_an_installed_package(installed: Path, desk: Desk) -> None:
    """Strictly, as a user's own program is checked; a mistake in calling it is found."""
    program = desk.folder / "using.py"
    program.write_text(USING)
    mypy = "from mypy import api; print(*api.run(__import__('sys').argv[1:]))"
    cache = f"--cache-dir={desk.folder / 'cache'}"
    python = f"--python-executable={installed / 'python'}"
    said = desk.run(BIN / "python", "-c", mypy, "--strict", cache, python, "using.py")
    lines = [line for line in said.splitlines() if line.startswith("using.py:")]
    found = [line.partition(": ")[2].removesuffix("  [arg-type]") for line in lines]
    assert found == [
        'note: Revealed type is "list[list[str]]"',
        'note: Revealed type is "list[str] | None"',
        MISTAKE,
    ]
