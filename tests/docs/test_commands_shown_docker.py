import io
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import msgspec
import pytest

from runner.options import DEFAULT_IMAGE
from tests.conftest import engine_api
from tests.docs.code_blocks import BLOCKS, Block
from tests.docs.elsewhere import ELSEWHERE, FOLLOWED
from tests.docs.scenes import look, scene
from tests.docs.world import KEY, Ended, World
from tests.provider import provider

STAND_IN = Path(__file__).with_name("stand_in.sh")
RAN = (
    "evalset run gpt-4 test-basic --snapshot",
    "evalset run gpt-3.5-turbo test-basic --snapshot",
)

MODELS = ("gpt-4", "gpt-3.5-turbo", "my-model", "gpt-4o", "gpt-4o-mini")

pytestmark = pytest.mark.docker


def ours(block: Block) -> Block:
    """Without what runs elsewhere."""
    typed = tuple(typed for typed in block.typed if typed.name not in ELSEWHERE)
    return msgspec.structs.replace(block, typed=typed)


TO_RUN = [ours(block) for block in BLOCKS if block.page not in FOLLOWED and ours(block).typed]


@pytest.fixture(scope="module")
def stand_in() -> Iterator[str]:
    """The eval image with another `oaieval`; gives its name, which is gone at the end."""
    api = engine_api()
    name = f"evalset/test:shown-{os.getpid()}"
    recipe = f"FROM {DEFAULT_IMAGE}\nCOPY oaieval /opt/evals/bin/oaieval\n"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path, data in (("Dockerfile", recipe.encode()), ("oaieval", STAND_IN.read_bytes())):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    content.seek(0)
    said = api.build(
        fileobj=content, custom_context=True, tag=name, network_mode="none", rm=True, decode=True
    )
    assert not [line for line in said if "error" in line]
    yield name
    api.remove_image(name)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a provider that has the models of the pages."""
    with provider(tmp_path_factory.mktemp("provider"), key=KEY, models=MODELS) as found:
        yield f"{found.url}/v1"


@pytest.fixture(scope="module")
def fresh(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, stand_in: str, models: str
) -> World:
    """A world in which nothing has been run."""
    top = tmp_path_factory.mktemp("fresh") / "world"
    world = World(top=top, image=stand_in, cache=cache, provider=models)
    world.make()
    return world


@pytest.fixture(scope="module")
def ran(fresh: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world in which two models have been run, and the first a week ago, too."""
    world = copied(fresh, tmp_path_factory.mktemp("ran") / "world")
    for line in RAN:
        world.run(line, world.clone)
    shutil.copytree(world.clone / "progress", world.clone / "last-week")
    return world


def copied(world: World, top: Path) -> World:
    """The same world elsewhere."""
    shutil.copytree(world.top, top, symlinks=True)
    copy = msgspec.structs.replace(world, top=top)
    copy.settle()
    return copy


@pytest.fixture
def world(
    request: pytest.FixtureRequest, block: Block, fresh: World, tmp_path: Path
) -> Iterator[World]:
    """A world for a block, of which neither the engine nor /tmp has anything at the end."""
    found = fresh if scene(block).fresh else request.getfixturevalue("ran")
    copy = copied(found, tmp_path / "world")
    yield copy
    left = copy.containers()
    for container in left:
        engine_api().remove_container(container, force=True, v=True)
    assert not left
    assert [*(copy.top / "tmp").iterdir()] == []


def play(world: World, block: Block) -> list[Ended]:
    """Type a block's commands in its scene."""
    asked = scene(block)
    folders = [world.top / folder for folder in asked.folders]
    folders += folders[-1:] * (len(block.typed) - len(folders))
    variables = {
        name: value and value.replace("{top}", str(world.top)).replace("{cache}", str(world.cache))
        for name, value in asked.variables.items()
    }
    with asked.before(world), world.typing(block, folders, **variables) as shell:
        asked.meanwhile(world)
        for index, typed in enumerate(block.typed):
            if typed.name.startswith("evalset view"):
                look(world, index, shell.pid)
    return world.ended(block)


def alike(line: str) -> str:
    """A line without the words that have figures or paths in them."""
    return re.sub(r"\S*[\d/]\S*", "", line)


@pytest.mark.parametrize("block", TO_RUN, ids=lambda block: block.name)
def test_the_commands_of_a_block_do_what_it_shows(world: World, block: Block) -> None:
    """Typed in their order, each ends with the exit code and prints the lines that are shown."""
    asked = scene(block)
    same = alike if asked.differs else str
    promised = chain(asked.prints, repeat(""))
    for ended, words in zip(play(world, block), promised, strict=False):
        assert ended.status == ended.typed.status, f"{ended.typed.text}\n{ended.said}"
        assert words in ended.said
        printed = [same(line) for line in ended.said.splitlines()]
        for line in ended.typed.answer:
            assert same(line) in printed, ended.said
