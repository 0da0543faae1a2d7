import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest
import yaml

from runner.data.cache import DataCache
from runner.data.lock import DataLock
from runner.options import DEFAULT_IMAGE
from runner.records.layout import Layout
from runner.records.progress import read_progress
from runner.records.state import RunState
from runner.run.fetch_containers import LABEL
from tests.conftest import OURS, engine_api, remove_containers
from tests.faults.small_disk import small_disk
from tests.forked import PROGRAMS, run_forked
from tests.hub import Hub, serving
from tests.images import build_image
from tests.processes import started

IMAGE = "evalset/test:data"
NETWORK = "evalset-test-hub"

# Seconds for one command, on a machine that is busy with others.
PATIENCE = 280

DOCKERFILE = f"""
FROM {DEFAULT_IMAGE}
COPY loading.py /tmp/
RUN cp /tmp/loading.py $(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"""

# A data set with pictures, as a file that the hub's own library writes.
PICTURES = """
import base64, io, json, sys
from datasets import Dataset, Features, Image, Value
from PIL import Image as Picture
names = ["image_%d" % index for index in range(1, 8)]
features = Features(
    {name: Value("string") for name in ("id", "question", "options", "answer", "question_type")}
    | {name: Image() for name in names}
)
rows = [
    {"id": str(i), "question": "Which one?", "options": "['a', 'b']", "answer": "A",
     "question_type": "multiple-choice", "image_1": Picture.new("RGB", (4, 4), (i, 0, 0))}
    | dict.fromkeys(names[1:])
    for i in range(3)
]
file = io.BytesIO()
Dataset.from_list(rows, features=features).to_parquet(file)
json.dump(base64.b64encode(file.getvalue()).decode(), sys.stdout)
"""


def lines(*rows: Mapping[str, object]) -> bytes:
    """Rows as JSON lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def readme(**files: dict[str, str]) -> bytes:
    """A data set's card, which says where each configuration's splits are."""
    configs = [
        {
            "config_name": config,
            "data_files": [{"split": split, "path": path} for split, path in splits.items()],
        }
        for config, splits in files.items()
    ]
    return f"---\n{yaml.safe_dump({'configs': configs})}---\n# A card\n".encode()


def words() -> dict[str, bytes]:
    """An index of nltk's, and a corpus."""
    text = "one\ntwo\nthree\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("words/en", text)
    packed = file.getvalue()
    about = f'id="words" name="Words" subdir="corpora" size="{len(packed)}" unzip="1"'
    about += f' checksum="{hashlib.md5(packed).hexdigest()}"'  # noqa: S324 - as nltk does
    about += f' sha256_checksum="{hashlib.sha256(packed).hexdigest()}"'
    about += f' unzipped_size="{len(text)}" url="ADDRESS/words.zip"'
    index = f'<?xml version="1.0"?><nltk_data><packages><package {about} /></packages></nltk_data>'
    return {"/words.zip": packed, "/index.xml": index.encode()}


@pytest.fixture(scope="session")
def data_image() -> str:
    """The eval image, with an eval that loads data from a hub; gives its name."""
    files = {"loading.py": Path(__file__).with_name("loading.py").read_bytes()}
    build_image(engine_api(), IMAGE, DOCKERFILE, files=files)
    return IMAGE


@pytest.fixture(scope="session")
def pictures(data_image: str) -> bytes:
    """A data set with pictures, as Parquet."""
    command = ["docker", "run", "--rm", "--network=none", data_image, "python3", "-c", PICTURES]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return base64.b64decode(json.loads(said))


@pytest.fixture(scope="session")
def network() -> Iterator[str]:
    """A network of containers that reaches this machine and nothing else; gives its name."""
    api = engine_api()
    name = f"{NETWORK}-{os.getpid()}"
    api.create_network(name, driver="bridge", internal=True)
    try:
        yield name
    finally:
        api.remove_network(name)


@pytest.fixture
def hub(network: str) -> Iterator[Hub]:
    """A hub that containers of the network reach."""
    about = engine_api().inspect_network(network)
    hub = Hub()
    with serving(hub, about["IPAM"]["Config"][0]["Gateway"]) as address:
        hub.address = address
        yield hub


class Desk(msgspec.Struct, frozen=True):
    """A host of its own: a cache, a registry and a progress directory.

    Attributes:
        folder: of all of them.
        hub: the hub's address.
    """

    folder: Path
    image: str
    network: str
    hub: str

    @property
    def layout(self) -> Layout:
        """Of the model `dummy` and the eval set `s`."""
        return Layout(root=self.folder / "progress", model="dummy", eval_set="s")

    @property
    def cache(self) -> DataCache:
        """The data that it has."""
        return DataCache(self.folder / "cache" / "evalset")

    def locks(self) -> dict[str, DataLock]:
        """The locks in its cache, by eval."""
        return {lock.eval: lock for _, lock in self.cache.all() if lock}

    def registry(self, *names: str, **entries: dict[str, object]) -> None:
        """Write a registry whose eval set `s` has these evals, and `NAME.dev.v0` of each entry."""
        defined = {f"{name}.dev.v0": entry for name, entry in entries.items()}
        content = {"evals": defined, "eval_sets": {"s": {"evals": [*names, *defined]}}}
        for kind, value in content.items():
            folder = self.folder / "registry" / kind
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "all.yaml").write_text(yaml.safe_dump(value, sort_keys=False))

    def match(self, path: str) -> dict[str, object]:
        """The entry of an eval whose samples are at an address of the hub."""
        return {
            "class": "evals.elsuite.basic.match:Match",
            "args": {"samples_jsonl": f"{self.hub}{path}"},
        }

    def loading(self, **arguments: str) -> dict[str, object]:
        """The entry of an eval that loads what it is told."""
        return {"class": "loading:Loading", "args": arguments}

    def git(self, *words: str) -> None:
        """Run Git."""
        subprocess.run(["git", *words], check=True, cwd=self.folder)

    def forget_data(self) -> None:
        """Remove what was fetched, as on a host that has nothing of it."""
        assert self.do("data", "clean").returncode == 0

    def do(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run `evalset`, and wait for its end."""
        return run_forked(
            "evalset", words, cwd=self.folder, env=self.environ(**variables), timeout=PATIENCE
        )

    def environ(self, **variables: str) -> dict[str, str]:
        """What a process gets for its environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        own = {
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "EVALSET_IMAGE": self.image,
            "EVALSET_NETWORK": self.network,
            "HF_ENDPOINT": self.hub,
        }
        return {**kept, **own, **variables}

    def fetch(self, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Fetch the data of the eval set `s`."""
        return self.do(
            "data", "fetch", "dummy", "s", "--registry-path", "registry", *options, **variables
        )

    def fetching(
        self, *options: str, **variables: str
    ) -> AbstractContextManager["subprocess.Popen[str]"]:
        """Start to fetch; the process is killed when the `with` block ends."""
        line = [sys.executable, *PROGRAMS["evalset"], "data", "fetch", "dummy", "s"]
        return started(
            [*line, "--registry-path", "registry", *options],
            folder=self.folder,
            env=self.environ(**variables),
            stdout=subprocess.DEVNULL,
        )

    def run(self, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run the eval set `s`."""
        return self.do("run", "dummy", "s", "--registry-path", "registry", *options, **variables)

    def containers(self, *, every: bool = True) -> list[str]:
        """Ids of the containers that fetch for its cache, or of the running ones alone."""
        label = f"{LABEL}={self.cache.root}"
        listed = engine_api().containers(all=every, filters={"label": label})
        return [about["Id"] for about in listed]

    def finished(self) -> set[str]:
        """Evals in the progress file."""
        return {command[2] for command in read_progress(self.layout.progress).commands}

    def reports(self) -> dict[str, object]:
        """The last final report of each eval."""
        state = RunState.from_directory(self.layout)
        return {each.eval: each.final_report for each in state.attempts}


def _made(folder: Path, image: str, network: str, hub: Hub) -> Iterator[Desk]:
    desk = Desk(folder, image, network, hub.address)
    yield desk
    remove_containers(desk.containers())


@pytest.fixture
def desk(tmp_path: Path, data_image: str, network: str, hub: Hub) -> Iterator[Desk]:
    """A host, with a hub that it can reach."""
    yield from _made(tmp_path, data_image, network, hub)


@pytest.fixture
def other_desk(tmp_path: Path, data_image: str, network: str, hub: Hub) -> Iterator[Desk]:
    """Another one."""
    folder = tmp_path / "other"
    folder.mkdir()
    yield from _made(folder, data_image, network, hub)


@pytest.fixture
def small_cache(tmp_path: Path) -> Iterator[Path]:
    """A cache folder on a disk of its own, of 16 MB."""
    with small_disk(tmp_path / "small", 16 << 20) as disk:
        yield disk.folder
