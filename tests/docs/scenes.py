"""What is made before a block's commands are typed, and what is done while they run."""

import os
import re
import shutil
import signal
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import msgspec
import pytest
import yaml

from runner.image.image import look_up_image
from tests.answered import Answered
from tests.conftest import engine_api, until
from tests.docs.code_blocks import Block
from tests.docs.page import ROOT
from tests.docs.world import KEY, REMOTE, World, address, children
from tests.provider import provider

# A block with one of these shows how a run begins; all others may ask about one that was.
BEGINS = re.compile(r"\b(evalset run|oaievalset)\b")

Around = Callable[[World], AbstractContextManager[object]]


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What a block asks for.

    Attributes:
        folders: where its commands are typed, below the world's folder; the last for all others.
        variables: that its shell has, or has not; `{top}` and `{cache}` are the world's.
        fresh: nothing has been run before.
        before: makes what the page says is there, and is left when the block has ended.
        meanwhile: done while the commands run.
        prints: what each of the first commands prints among other things, as the page promises.
        differs: what is printed has figures and paths of the machine in it.
    """

    folders: tuple[Path | str, ...] = ("clone",)
    variables: dict[str, str | None] = {}
    fresh: bool = False
    before: Around = nullcontext
    meanwhile: Callable[[World], None] = lambda _: None
    prints: tuple[str, ...] = ()
    differs: bool = False


def scene(block: Block) -> Scene:
    """That of a block, by its first command."""
    first = block.typed[0].name
    found = [one for start, one in SCENES.items() if first.startswith(start)]
    asked = found[0] if found else Scene()
    begins = any(BEGINS.search(typed.text) for typed in block.typed)
    return msgspec.structs.replace(asked, fresh=asked.fresh or begins)


@contextmanager
def own_sets(world: World) -> Iterator[None]:
    """An eval set of the user's, where openai/evals looks for it."""
    for kind, content in {
        "evals": {"mine.dev.v0": {"class": "evals.elsuite.basic.match:Match"}},
        "eval_sets": {"my-set": {"evals": ["mine.dev.v0"]}},
    }.items():
        folder = world.home / ".evals" / kind
        folder.mkdir(parents=True)
        (folder / "mine.yaml").write_text(yaml.safe_dump(content))
    yield


@contextmanager
def named(name: str, what: str) -> Iterator[None]:
    """An image with one more name, if nobody has given it that."""
    api = engine_api()
    repository, _, version = name.partition(":")
    if look_up_image(api, name):
        yield
        return
    api.tag(what, repository, tag=version)
    try:
        yield
    finally:
        api.remove_image(name)


@contextmanager
def source_at_github(world: World) -> Iterator[None]:
    """A repository of ours where the page says, and an environment for what is installed."""
    source = world.top / "source"
    shutil.copytree(ROOT / "runner", source / "runner", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "Dockerfile"):
        shutil.copy(ROOT / name, source)
    world.run("git init --quiet && git add --all", source)
    world.run("git -c user.name=O -c user.email=o@example.org commit --quiet -m first", source)
    world.run("git tag COMMIT", source)
    with (world.home / ".gitconfig").open("a") as file:
        file.write(f'[url "{source}"]\n\tinsteadOf = https://github.com/OWNER/evalset\n')
    world.run(f"python -m venv {world.top / 'venv'}", world.top)
    yield


@contextmanager
def half_elsewhere(world: World) -> Iterator[None]:
    """A branch on which a workflow has finished some of the evals."""
    line = "evalset run gpt-4 test-basic --snapshot --max_samples 25"
    world.run(f"git clone --quiet {world.top / 'hub.git'} job", world.top)
    world.run("git config user.name J && git config user.email j@example.org", world.top / "job")
    world.run(f"{line} --select 'test-match*'", world.top / "job")
    yield


@contextmanager
def port_to_be_had(_: World) -> Iterator[None]:
    """The port that the page shows."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 8000))
        except OSError:
            pytest.skip("another program of this machine has port 8000")
    yield


@contextmanager
def waiting_run(world: World) -> Iterator[None]:
    """A run whose eval continues until it is told to end, and that ends then."""
    with world.running(ONE_EVAL) as run:
        yield
        assert run.wait(60) == 0


@contextmanager
def killed_run(world: World) -> Iterator[None]:
    """What a run leaves that was killed."""
    with world.running(ONE_EVAL) as run:
        run.kill()
    assert world.containers()
    yield


@contextmanager
def answers_on_record(world: World) -> Iterator[None]:
    """An eval whose model has answered through the gateway."""
    one = Answered(
        world.clone / "progress",
        ["oaieval", "gpt-4", "test-match.s1.simple-v0"],
        model="gpt-4",
        eval_set="test-basic",
    )
    one.paid(3, usd=0.01)
    one.replayed()
    prices = "models: {gpt-4: {input: 30, output: 60}}"
    (world.clone / "prices.yaml").write_text(prices)
    yield


@contextmanager
def server_at_home(world: World) -> Iterator[None]:
    """A model server where the page says, and the set that it is asked for."""
    folder = world.top / "server"
    folder.mkdir()
    with (
        port_to_be_had(world),
        own_sets(world),
        provider(folder, port=8000, key=KEY, models=("my-model",)),
    ):
        yield


def look(world: World, index: int, shell: int) -> None:
    """See that a report is shown, then end it as Ctrl-C does."""
    found = until(lambda: address(world.said(index)) or world.status(index), 60)
    if found == world.status(index):
        return  # it has ended by itself, and said why
    with urllib.request.urlopen(found, timeout=20) as answer:  # noqa: S310 - it is on loopback
        assert b"test-match" in answer.read()
    (program,) = children(shell)
    os.kill(program, signal.SIGINT)


def follow(world: World) -> None:
    """See that what is printed is shown while the eval runs."""
    until(lambda: "waiting" in world.said(0) or world.status(0), 60)
    world.let_go()


ONE_EVAL = "evalset run gpt-4 test-basic --select 'test-match*'"
DROP_IN = Scene(variables={"EVALSET_PROGRESS_DIR": "progress"})
NOT_OURS: dict[str, str | None] = {"EVALSET_IMAGE": None, "OPENAI_API_KEY": None}
NO_PROVIDER: dict[str, str | None] = {"OPENAI_BASE_URL": None, "ANTHROPIC_API_KEY": None}

ALL_FOUR = "4 of 4 evals"
NOTHING = "nothing to run"

# By how a block's first command begins.
SCENES = {
    "make demo": Scene(
        folders=(ROOT,),
        variables={**NOT_OURS, "EVALSET_NETWORK": None, "EVALSET_PROGRESS_DIR": "{cache}/demo"},
        prints=("Run `make demo` again: nothing runs twice",),
    ),
    ".venv/bin/python -m pytest": Scene(
        folders=(ROOT,),
        variables={"PYTEST_ADDOPTS": "-p no:cacheprovider"},
        prints=(" passed", " passed"),
    ),
    f"evalset run gpt-4 test-basic --snapshot --remote {REMOTE}": Scene(
        folders=("elsewhere", "another"), prints=(ALL_FOUR, NOTHING)
    ),
    "evalset run gpt-4 test-basic --snapshot --max_samples": Scene(
        before=half_elsewhere, prints=("took over 1 eval that the branch",)
    ),
    "evalset run gpt-4 test-basic --snapshot --snapshot-answers": Scene(prints=(ALL_FOUR,)),
    "evalset run gpt-4 test-basic --snapshot": Scene(
        folders=("clone", "elsewhere"), prints=(ALL_FOUR, NOTHING)
    ),
    "evalset run gpt-4 test-basic --budget 2mtok": Scene(
        before=answers_on_record, prints=(ALL_FOUR,)
    ),
    "pip install git+https://github.com/OWNER/evalset@COMMIT": Scene(
        before=source_at_github,
        variables={"PATH": f"{{top}}/venv/bin:{os.environ['PATH']}"},
        prints=("Successfully installed", ""),
    ),
    "export OPENAI_BASE_URL=http://localhost:8000/v1": Scene(
        before=server_at_home, prints=("", "1 of 1 eval")
    ),
    "evalset run my-model my-set": Scene(before=own_sets, prints=("1 of 1 eval",)),
    "EVALSET_JOBS=4 EVALSET_TIMEOUT=2h oaievalset": DROP_IN,
    "oaievalset": DROP_IN,
    "evalset view gpt-4 test-basic --port 8000": Scene(before=port_to_be_had),
    "evalset logs gpt-4 test-basic test-match -f": Scene(
        fresh=True, before=waiting_run, meanwhile=follow, prints=("Final report",)
    ),
    "evalset answers gpt-4 test-basic": Scene(
        before=answers_on_record, prints=("answers: 3 paid for", "answers: 3 paid for", "4 evals")
    ),
    "evalset clean": Scene(fresh=True, before=killed_run),
    "evalset doctor": Scene(variables={**NOT_OURS, **NO_PROVIDER}, differs=True),
    "evalset image": Scene(variables=NOT_OURS),
}
