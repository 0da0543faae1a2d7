import gc
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import docker
import msgspec
import pytest
import yaml
from docker.errors import ImageNotFound
from hypothesis import settings
from xdist.remote import Producer  # type: ignore[import-untyped] # it has no types
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped] # as above
from xdist.workermanage import WorkerController  # type: ignore[import-untyped] # as above

from runner.engine.container import remove
from runner.engine.engine import Engine
from runner.engine.labels import Label
from runner.image.build import BASE_NAME
from runner.image.image import Image, find_image
from runner.model import Attempt
from runner.options import DEFAULT_IMAGE
from runner.records.layout import Layout
from runner.records.progress import read_attempts, read_progress
from tests.forked import PROGRAMS, run_forked
from tests.images import build_image
from tests.processes import started
from tests.provider import Provider, provider

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROGRAM = Path(__file__).with_name("program.py")
TEST_IMAGE = "evalset/test:program"
# A volume that no mount covers, to see that it goes with the container.
DOCKERFILE = """
FROM {base}
COPY program.py /bin/program
ENV IN_THE_IMAGE=yes
VOLUME /volume
"""

# Variables by which the machine that the tests run on could change what they see.
OURS = ("EVALSET_", "OPENAI_", "EVALS_", "GITHUB_", "GIT_CONFIG_", "CI", "NO_COLOR")

# Where random decisions come from; all tests of a session share it.
SEED = "EVALSET_TEST_SEED"

# Tests in these folders run in one process: a build of an image removes the stages that others have
# left; a release is built once for all of its tests, and a second host is started once.
TOGETHER = {"image": "builds", "packaging": "builds", "hosts": "hosts"}

# Of the others, files with one of these marks have the longest tests.
LONG = re.compile(r"mark\.(docker|upstream|browser|slow|timeout)")

# A machine that is busy with containers is slow at times, and that is no fault of the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

T = TypeVar("T")


# For Git, whose settings differ from user to user: one has a name, another signs every commit.
# Where a test has a home folder of its own, the settings in there count. A new repository gets none
# of the sample hooks.
WITHOUT_SETTINGS = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TEMPLATE_DIR": "",
}


def pytest_configure() -> None:
    """Choose a seed, unless one is given, and set what the processes of `-n` inherit."""
    os.environ[SEED] = os.environ.get(SEED) or str(time.time_ns() % 1_000_000)
    os.environ.update(WITHOUT_SETTINGS)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from what stays to the end: modules and collected tests."""
    gc.freeze()


def pytest_report_header() -> str:
    """Tell the seed, with which a session can be repeated."""
    return f"{SEED}={os.environ[SEED]}"


@once
def unit_of(path: str) -> str:
    """What stays in one process: the tests of a file, or those of files that share something."""
    folder = path.split("/")[1]
    return TOGETHER.get(folder, path)


@once
def turn_of(path: str) -> int:
    """When a file's tests are run: the folders that stay together have the most to do."""
    if unit_of(path) != path:
        return 0
    return 1 if LONG.search(Path(__file__).parents[1].joinpath(path).read_text()) else 2


class LongestFirst(LoadScopeScheduling):  # type: ignore[misc] # untyped
    """With `-n`, files stay whole, and the short ones come last to fill the processes evenly."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid.partition("::")[0])

    def _assign_work_unit(self, node: WorkerController) -> None:
        turns = {
            unit: min(turn_of(nodeid.partition("::")[0]) for nodeid in tests)
            for unit, tests in self.workqueue.items()
        }
        self.workqueue.move_to_end(min(turns, key=turns.__getitem__), last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LongestFirst:
    """Choose how tests are spread over processes."""
    return LongestFirst(config, log)


@once
def engine_api() -> docker.APIClient:
    """A client of the engine, for all tests."""
    return Engine().api


@pytest.fixture(scope="session")
def api() -> docker.APIClient:
    """A client of the engine."""
    return engine_api()


@pytest.fixture(scope="session")
def eval_image(api: docker.APIClient) -> Image:
    """The eval image."""
    return find_image(api, DEFAULT_IMAGE)


@pytest.fixture(scope="session")
def local_base(eval_image: Image) -> str:
    """The base that the eval image was built on."""
    return eval_image.labels[BASE_NAME]


@pytest.fixture
def tag(api: docker.APIClient, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for an image that is gone after the test."""
    name = f"evalset/test:{re.sub(r'[^a-z0-9]', '-', request.node.name)}"
    yield name
    with suppress(ImageNotFound):
        api.remove_image(name, force=True)


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium, one for a process: Playwright can be started only once in each."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - most tests need none

    path = shutil.which("chromium")
    assert path, "the tests need chromium; scripts/test-tools installs it"
    with sync_playwright() as playwright:
        # Its own sandbox does not work for root; what it opens here is ours.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def test_image() -> str:
    """A small image whose `/bin/program` does what the eval's name says; gives the image's name."""
    api = engine_api()
    base = find_image(api, DEFAULT_IMAGE).labels[BASE_NAME]
    files = {"program.py": PROGRAM.read_bytes()}
    build_image(api, TEST_IMAGE, DOCKERFILE.format(base=base), files=files)
    return TEST_IMAGE


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's cache folder of all runs of a session, so that an image is read once."""
    return tmp_path_factory.mktemp("cache")


class Place(msgspec.Struct, frozen=True):
    """Where a test's runs keep their files, and what is there.

    Attributes:
        folder: the test's own.
        cache: the user's cache folder.
        image: that runs use.
        program: arguments that make Python the program.
    """

    folder: Path
    cache: Path
    image: str
    program: tuple[str, ...] = PROGRAMS["evalset"]

    @property
    def progress(self) -> Path:
        """The progress directory."""
        return self.folder / "progress"

    @property
    def layout(self) -> Layout:
        """Of the model `m` and the eval set `s`."""
        return Layout(root=self.progress, model="m", eval_set="s")

    def registry(self, *names: str, containers: object = None) -> Path:
        """Write a registry with an eval set `s` of these evals, in this order."""
        folder = self.folder / "registry"
        content = {
            "evals": {name: {"class": "a:B"} for name in names},
            "eval_sets": {"s": {"evals": list(names)}},
            "containers": containers or {},
        }
        for kind, value in content.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (folder / kind / "all.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
        return folder

    def environ(self, **variables: str) -> dict[str, str]:
        """What a run's process gets for its environment: nothing of the machine's that counts."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        own = {
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.cache),
            "EVALSET_IMAGE": self.image,
            "EVALSET_RUN_COMMAND": "/bin/program",
            "EVALSET_NETWORK": "none",
            "EVALSET_MEMORY": "64m",
        }
        return {**kept, **own, **variables}

    def line(self, *options: str, command: str = "run") -> list[str]:
        """The command line of a run of `m` and `s` with the tests' program."""
        line = [sys.executable, *self.program, command, "--progress-dir", str(self.progress)]
        if command == "run":
            line += ["m", "s", "--registry-path", str(self.folder / "registry")]
        return [*line, *options]

    def run(self, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run, and wait for the end."""
        return self._ended(self.line(*options), self.environ(**variables))

    def ask(
        self, command: str, *options: str, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run one of the other commands, and wait for the end."""
        return self._ended(self.line(*options, command=command), self.environ(**variables))

    def _ended(self, line: list[str], env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        if self.program == PROGRAMS["evalset"]:
            words = line[1 + len(self.program) :]
            return run_forked("evalset", words, cwd=self.folder, env=env)
        return subprocess.run(
            line, capture_output=True, text=True, check=False, cwd=self.folder, env=env, timeout=60
        )

    def running(
        self, *options: str, **variables: str
    ) -> AbstractContextManager["subprocess.Popen[str]"]:
        """Start a run, which is killed when the `with` block ends."""
        return started(
            self.line(*options),
            folder=self.folder,
            env=self.environ(**variables),
            stderr=subprocess.STDOUT,
        )

    def containers(self, *, every: bool = True) -> list[str]:
        """Ids of the containers of this progress directory, or of the running ones alone."""
        label = f"{Label.PROGRESS}={self.progress}"
        listed = engine_api().containers(all=every, filters={"label": label})
        return [about["Id"] for about in listed]

    def until_running(self, count: int, words: bytes = b"waiting") -> list[Path]:
        """Wait until so many evals have said these words; give their private folders."""
        api = engine_api()

        def waiting() -> list[Path]:
            ids = self.containers(every=False)
            logs = {one: api.logs(one) for one in ids}
            if sum(words in text for text in logs.values()) < count:
                return []
            return sorted((self.progress / ".attempts").iterdir())

        return until(waiting)

    def let_go(self, status: int = 0) -> None:
        """Tell every waiting eval to end."""
        for private in (self.progress / ".attempts").iterdir():
            with suppress(FileNotFoundError):  # of one that has ended by itself
                (private / "go.new").write_text(str(status or ""))
                (private / "go.new").rename(private / "go")

    def finished(self) -> list[str]:
        """Evals in the progress file, in file order."""
        return [command[2] for command in read_progress(self.layout.progress).commands]

    def records(self) -> list[Attempt]:
        """The attempts on record, in file order."""
        return list(read_attempts(self.layout.attempts).records)

    def reports(self) -> dict[str, dict[str, object]]:
        """The last final report of each eval that left one."""
        return {each.eval: each.final_report for each in self.records() if each.final_report}

    def leftovers(self) -> list[str]:
        """What a run must not leave: containers, private folders, a lock's holder."""
        return [
            *self.containers(),
            *map(str, self.progress.glob(".attempts")),
            *map(str, self.progress.rglob("*.holder.json")),
        ]


def impatient(place: Place) -> Place:
    """The same place for a program that kills soon after it asked, and pauses briefly."""
    code = (
        "from runner import cli; from runner.engine import container; "
        "from runner.run import schedule, stopping; "
        "container.STOP_TIME = stopping.STOP_TIME = 1; schedule.FIRST_PAUSE = 0.1; cli.main()"
    )
    return msgspec.structs.replace(place, program=("-c", code))


def until(ask: Callable[[], T | None], seconds: float = 20) -> T:
    """Ask until the answer is true."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.03)
    return answer


def remove_containers(ids: Iterable[str]) -> None:
    """Remove containers, of which some may be on their way out."""
    for container in ids:
        remove(engine_api(), container)


@pytest.fixture
def place(tmp_path: Path, cache: Path, test_image: str) -> Iterator[Place]:
    """A place of its own for a test, where nothing may be left at its end."""
    found = Place(tmp_path, cache, test_image)
    yield found
    left = found.leftovers()
    remove_containers(found.containers())
    assert not left


@pytest.fixture(scope="session")
def one_stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """One process for all tests of a session."""
    with provider(tmp_path_factory.mktemp("provider")) as found:
        yield found


@pytest.fixture
def stub(one_stub: Provider) -> Provider:
    """A provider that behaves well and has written nothing down."""
    one_stub.behave()
    for path in one_stub.folder.glob("*.jsonl"):
        path.write_bytes(b"")
    return one_stub
