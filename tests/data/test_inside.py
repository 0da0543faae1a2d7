import io
import json
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError

import pytest

from runner.data import inside

COMMIT = "0123456789" * 4
PINS = {"datasets/me/words": {"main": COMMIT}, "datasets/old": {"main": COMMIT}}


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("/datasets/me/words/resolve/main/a/b", f"/datasets/me/words/resolve/{COMMIT}/a/b"),
        ("/api/datasets/me/words", f"/api/datasets/me/words/revision/{COMMIT}"),
        ("/api/datasets/me/words/tree/main", f"/api/datasets/me/words/tree/{COMMIT}"),
        ("/api/datasets/old/tree/main/x", f"/api/datasets/old/tree/{COMMIT}/x"),
        ("http://h/datasets/old/resolve/main/x", f"http://h/datasets/old/resolve/{COMMIT}/x"),
        ("/datasets/me/words/resolve/v1/a", "/datasets/me/words/resolve/v1/a"),
        ("/datasets/me/words", "/datasets/me/words"),
        ("/datasets/you/words/resolve/main/a", "/datasets/you/words/resolve/main/a"),
        ("/me/model/resolve/main/a", "/me/model/resolve/main/a"),
        ("/v1/chat/completions", "/v1/chat/completions"),
    ],
)
def test_requests_for_a_pinned_branch_ask_for_its_commit(asked: str, given: str) -> None:
    """Those for anything else stay as they are."""
    assert inside.pinned(asked, PINS) == given


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("https://host/a.jsonl", "https://host/a.jsonl"),
        ("/registry/0/data/https:/host/a.jsonl", "https://host/a.jsonl"),
        (Path("/opt/registry/data/gs:/bucket/a.jsonl"), "gs://bucket/a.jsonl"),
        ("az://account/a", "az://account/a"),
        ("/registry/0/data/a.jsonl", ""),
        ("data/a.jsonl", ""),
        ("file:///a", ""),
    ],
)
def test_an_address_is_found_behind_the_folder_that_upstream_puts_before_it(
    path: object, address: str
) -> None:
    """Paths of the container stay paths."""
    assert inside.address_of(path) == address


class Blobs(ModuleType):
    """What stands for blobfile: a bucket that can go away, and this machine's files."""

    def __init__(self) -> None:
        super().__init__("blobfile")
        self.bucket: dict[str, bytes] = {"gs://b/d/one.jsonl": b"{}\n"}
        self.asked: list[str] = []

    def BlobFile(self, path: str, mode: str = "r", **_: object) -> Any:  # noqa: ANN401, N802 - blobfile's
        """A file."""
        if not path.startswith("gs:"):
            return Path(path).open(mode)
        self.asked.append(path)
        return io.BytesIO(self.bucket[path])

    def isdir(self, path: str) -> bool:
        """Whether it is a folder."""
        self.asked.append(path)
        return any(name.startswith(f"{path}/") for name in self.bucket)

    def listdir(self, path: str) -> Iterator[str]:
        """Names in a folder."""
        self.asked.append(path)
        return (name.rpartition("/")[2] for name in self.bucket if name.startswith(f"{path}/"))


def test_a_bucket_is_read_once_and_then_from_the_files(tmp_path: Path) -> None:
    """Folders, their names, and files: all that upstream's `get_jsonl` asks for."""
    blobs = Blobs()
    fetching = inside.Addresses(tmp_path, blobs, fetching=True)

    def load(found: inside.Addresses) -> str:
        assert found.isdir("gs://b/d")
        (name,) = found.listdir("gs://b/d")
        assert not found.isdir(f"gs://b/d/{name}")
        with found.open(f"gs://b/d/{name}") as file:
            return str(file.read())

    assert load(fetching) == "{}\n"
    blobs.bucket.clear()
    asked = len(blobs.asked)
    assert load(inside.Addresses(tmp_path, blobs, fetching=False)) == "{}\n"
    assert len(blobs.asked) == asked


def test_what_was_not_fetched_is_not_asked_for(tmp_path: Path) -> None:
    """In a run an address is one of those that are known, or an error that says so."""
    blobs = Blobs()
    reading = inside.Addresses(tmp_path, blobs, fetching=False)

    for ask in (reading.isdir, reading.open):
        with pytest.raises(FileNotFoundError, match="gs://b/x is not among the data"):
            ask("gs://b/x")
    assert blobs.asked == []


def test_an_address_that_cannot_be_read_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one line that the user gets is made of that; nothing half is left."""
    monkeypatch.setenv(inside.PROBLEMS, str(tmp_path / "problems"))
    fetching = inside.Addresses(tmp_path / "kept", Blobs(), fetching=True)

    with pytest.raises(KeyError):
        fetching.open("gs://b/x")

    assert (tmp_path / "problems").read_text() == "away gs://b/x: 'gs://b/x'\n"
    assert not list((tmp_path / "kept").glob("[0-9a-f]" * 64))


class Datasets(ModuleType):
    """What stands for `datasets.load`: it gives the name that it was asked for."""

    _PACKAGED_DATASETS_MODULES = ("json",)

    @staticmethod
    def load_dataset(path: str, *_: object, **__: object) -> str:
        """The name."""
        return path


def test_a_name_without_an_owner_gets_the_one_that_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names with one, the library's own, and unknown ones stay as they are."""
    monkeypatch.setenv(inside.KEPT, str(tmp_path))
    (tmp_path / "owners.json").write_text(json.dumps({"hellaswag": "Rowan/hellaswag"}))
    module: Any = Datasets("datasets.load")

    inside.name_owners(module)

    asked = ("hellaswag", "me/words", "json", "unknown")
    assert [module.load_dataset(name) for name in asked] == ["Rowan/hellaswag", *asked[1:]]


def test_a_request_that_goes_nowhere_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the host, and why; the library gets its error all the same."""
    monkeypatch.setenv(inside.PROBLEMS, str(tmp_path / "problems"))

    def send() -> None:
        raise ConnectionError("refused\nby it")

    with pytest.raises(ConnectionError):
        inside.watched("hub", send)

    assert (tmp_path / "problems").read_text() == "away hub: refused by it\n"


def test_an_answer_that_says_no_is_no_host_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The eval's own last line says it better."""
    monkeypatch.setenv(inside.PROBLEMS, str(tmp_path / "problems"))

    def send() -> None:
        raise HTTPError("http://hub/a", 404, "Not Found", Message(), None)

    with pytest.raises(HTTPError):
        inside.watched("hub", send)

    assert not (tmp_path / "problems").exists()
