"""Folders that hosts get once, by hash."""

import importlib.metadata
import io
import tarfile
from pathlib import Path

import pytest

from runner.engine.engine import Engine
from runner.errors import EnvironmentFault
from runner.hosts.bundles import PACKAGES, agent_code, folder
from runner.image.image import find_image
from tests.wheel import write_wheel


def make(root: Path) -> Path:
    """A folder with all kinds of things in it."""
    (root / "sub/empty").mkdir(parents=True)
    (root / "sub/file").write_text("text")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("sub/file")
    (root / "broken").symlink_to("nowhere")
    return root


def test_equal_folders_have_one_name(tmp_path: Path) -> None:
    """Wherever they are, and whenever they were written."""
    first = folder("code", make(tmp_path / "a"))
    assert first.name == folder("code", make(tmp_path / "b")).name
    assert first.name.startswith("code-")


@pytest.mark.parametrize("change", ["text", "name", "mode", "link", "more"])
def test_each_difference_gives_another_name(tmp_path: Path, change: str) -> None:
    """Also those that no file's text shows."""
    root = make(tmp_path / "a")
    before = folder("code", root).name
    match change:
        case "text":
            (root / "sub/file").write_text("next")
        case "name":
            (root / "sub/file").rename(root / "sub/other")
        case "mode":
            (root / "run").chmod(0o644)
        case "link":
            (root / "link").unlink()
            (root / "link").symlink_to("sub/other")
        case "more":
            (root / "sub/another").mkdir()
    assert folder("code", root).name != before


def test_a_folder_arrives_as_it_is(tmp_path: Path) -> None:
    """Links stay links, programs stay programs; what is left out is not there."""
    root = make(tmp_path / "a")
    sent = io.BytesIO()
    folder("code", root, without=["sub/empty"]).write(sent)
    sent.seek(0)
    with tarfile.open(fileobj=sent) as tar:
        tar.extractall(tmp_path / "b")  # noqa: S202 - made here
    arrived = tmp_path / "b"
    found = sorted(str(path.relative_to(arrived)) for path in arrived.rglob("*"))
    assert found == ["broken", "link", "run", "sub", "sub/file"]
    assert (arrived / "link").read_text() == "text"
    assert (arrived / "run").stat().st_mode & 0o111
    assert not (arrived / "sub/file").stat().st_mode & 0o111


@pytest.mark.docker
def test_an_image_with_another_python_gets_packages_for_it(
    tmp_path: Path, local_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same versions, fetched by pip once."""
    for name in PACKAGES:
        files = {f"{name}/__init__.py": ""}
        version = importlib.metadata.version(name)
        write_wheel(tmp_path / "index", name, version, files=files)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    engine = Engine()
    image = find_image(engine.api, local_base)
    told: list[str] = []
    first = agent_code(engine, image, "3.0", tmp_path / "cache", tell=told.append)
    again = agent_code(engine, image, "3.0", tmp_path / "cache", tell=told.append)
    assert len(told) == 1
    assert first.name == again.name
    msgspec = [path for name, path in first.files if name.startswith("msgspec")]
    assert msgspec
    assert all(path.is_relative_to(tmp_path / "cache") for path in msgspec)


@pytest.mark.docker
def test_packages_that_cannot_be_fetched_are_said(
    tmp_path: Path, local_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pip's own words."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    engine = Engine()
    image = find_image(engine.api, local_base)
    with pytest.raises(EnvironmentFault, match="pip could not fetch what agents need"):
        agent_code(engine, image, "3.0", tmp_path / "cache", tell=lambda _: None)
    assert list((tmp_path / "cache/agents").iterdir()) == []
