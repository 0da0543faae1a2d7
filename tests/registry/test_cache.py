import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.registry.entries import EvalEntry, EvalSetEntry, Registry, RegistryCache

REGISTRY = Registry(
    evals={"a": EvalEntry(source="f"), "b": EvalEntry(source="f", alias="a")},
    eval_sets={"s": EvalSetEntry(source="g", patterns=("a*",), builtin=True)},
    completion_fns={"c": "h"},
    solvers={"d": "i"},
)
IMAGE = "sha256:0123"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_what_is_kept_comes_back_for_its_image_only(tmp_path: Path) -> None:
    """Order and values are those of the registry that was read."""
    cache = RegistryCache(tmp_path)
    assert cache.get(IMAGE) is None
    cache.put(IMAGE, REGISTRY)
    found = RegistryCache(tmp_path).get(IMAGE)
    assert found == REGISTRY
    assert found
    assert list(found.evals) == ["a", "b"]
    assert cache.get("sha256:4567") is None


@given(content=st.binary(max_size=40))
def test_a_damaged_cache_is_a_miss(folder: Path, content: bytes) -> None:
    """Whatever is in the file, the registry can be read from the image again."""
    cache = RegistryCache(folder)
    cache.put(IMAGE, REGISTRY)
    (path,) = (folder / "registries").iterdir()
    whole = path.read_bytes()
    for damaged in (content, whole[: len(content)], whole[:-1] + content[:1] + b"\xc1"):
        path.write_bytes(damaged)
        assert isinstance(cache.get(IMAGE), Registry | None)


def test_a_cache_cut_short_is_a_miss(tmp_path: Path) -> None:
    """No part of a registry passes for the whole."""
    cache = RegistryCache(tmp_path)
    cache.put(IMAGE, REGISTRY)
    (path,) = (tmp_path / "registries").iterdir()
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        assert cache.get(IMAGE) is None


def test_a_cache_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    """The registry is read from the image again next time."""
    (tmp_path / "file").write_text("")
    cache = RegistryCache(tmp_path / "file")
    cache.put(IMAGE, REGISTRY)
    assert cache.get(IMAGE) is None
    assert cache.newest() is None


def test_the_newest_is_the_one_that_was_kept_last(tmp_path: Path) -> None:
    """Shell completion uses it, whatever the image."""
    cache = RegistryCache(tmp_path)
    assert cache.newest() is None
    cache.put(IMAGE, REGISTRY)
    cache.put("sha256:4567", Registry())
    cache.put("sha256:89ab", Registry())
    for age, name in enumerate(("89ab", "4567", "0123"), start=1):
        os.utime(tmp_path / "registries" / f"{name}.1.msgpack", (age, age))
    assert cache.newest() == REGISTRY
