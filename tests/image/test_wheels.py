import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from runner.errors import EnvironmentFault
from runner.image import pip
from runner.image.build import Recipe
from runner.image.pip import Platform, fetch_wheels
from tests.faults.small_disk import small_disk
from tests.wheel import write_wheel

DEBIAN_12 = Platform(python="3.11", machine="x86_64", glibc=36)


def one_package() -> bytes:
    found = re.search(rb"^sniffio==(?:.*\\\n)+.*\n", Recipe().lock, re.MULTILINE)
    assert found is not None
    return found[0]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def no_pip() -> list[str]:
    pytest.fail("pip was asked")


def test_every_tag_that_an_image_can_use_is_named_to_pip() -> None:
    """Pip takes no wheel for an older glibc unless its tag is named, old spellings included."""
    tags = Platform(python="3.11", machine="aarch64", glibc=28).tags
    assert tags[0] == "manylinux_2_28_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64"} <= set(tags)
    assert "manylinux_2_29_aarch64" not in tags


def test_wheels_are_fetched_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second build finds them in the cache directory and needs no network."""
    folder = fetch_wheels(one_package(), DEBIAN_12, tell=lambda _: None)
    assert folder.is_relative_to(cache / "evalset" / "wheels")
    assert [path.name.partition("-")[0] for path in folder.iterdir()] == ["sniffio"]
    monkeypatch.setattr(pip, "pip", no_pip)
    assert fetch_wheels(one_package(), DEBIAN_12, tell=lambda _: None) == folder


@pytest.mark.usefixtures("cache")
def test_a_damaged_wheel_is_fetched_again() -> None:
    """A cached wheel counts only while its hash is one of the lock's."""
    (wheel,) = fetch_wheels(one_package(), DEBIAN_12, tell=lambda _: None).iterdir()
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:100])
    fetch_wheels(one_package(), DEBIAN_12, tell=lambda _: None)
    assert wheel.read_bytes() == whole


def test_what_pip_cannot_fetch_is_one_clear_line(cache: Path) -> None:
    """A hash that no file has is refused by pip, and nothing stays in the cache."""
    lock = re.sub(rb"sha256:[0-9a-f]{64}", b"sha256:" + b"0" * 64, one_package())
    with pytest.raises(EnvironmentFault, match="pip could not fetch") as raised:
        fetch_wheels(lock, DEBIAN_12, tell=lambda _: None)
    assert "\n" not in str(raised.value)
    assert list((cache / "evalset" / "wheels").iterdir()) == []


@pytest.fixture
def pipless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder of programs on a machine without pip."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.delenv("UV", raising=False)
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


@pytest.mark.usefixtures("cache")
def test_where_uv_has_installed_us_it_gets_pip(pipless: Path) -> None:
    """Its environments have none, and the machine need not have one either."""
    (pipless / "uv").symlink_to(Path(sys.executable).parent / "uv")
    for tool in ("dirname", "realpath"):  # programs that uv installs find their own folder by them
        (pipless / tool).symlink_to(shutil.which(tool, path=os.defpath) or tool)
    folder = fetch_wheels(one_package(), DEBIAN_12, tell=lambda _: None)
    assert [path.name.partition("-")[0] for path in folder.iterdir()] == ["sniffio"]


@pytest.mark.usefixtures("cache", "pipless")
def test_without_pip_and_uv_a_line_says_what_to_install() -> None:
    """For nothing else fetches wheels."""
    with pytest.raises(EnvironmentFault, match=r"no pip to fetch .* -m ensurepip"):
        fetch_wheels(one_package(), DEBIAN_12, tell=lambda _: None)


def test_a_cache_that_is_not_writable_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where the cache directory should be is named, with what to do."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EnvironmentFault, match="point XDG_CACHE_HOME elsewhere"):
        fetch_wheels(one_package(), DEBIAN_12, tell=lambda _: None)


def test_a_full_disk_is_told_from_a_network_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line says where room is needed; what was there before stays, and no half wheel."""
    wheel = write_wheel(tmp_path / "index", "big", "1.0", files={"big.py": "#" * (2 << 20)})
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock = f"big==1.0 --hash=sha256:{digest}\n".encode()
    asked = f"--no-index\n--find-links {wheel.parent}\n".encode() + lock
    with small_disk(tmp_path / "small", 1 << 20) as disk:
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk.folder))
        kept = disk.folder / "evalset/wheels/other/other.whl"
        kept.parent.mkdir(parents=True)
        kept.write_text("a wheel")
        with pytest.raises(EnvironmentFault) as raised:
            fetch_wheels(lock, DEBIAN_12, tell=lambda _: None, asked=asked)
        assert [path for path in disk.folder.rglob("*") if path.is_file()] == [kept]
        disk.grow(4 << 20)
        assert fetch_wheels(lock, DEBIAN_12, tell=lambda _: None, asked=asked).is_dir()
    what, _, cure = str(raised.value).partition("; ")
    assert what.startswith(f"pip could not fetch the image's Python packages ({DEBIAN_12}): the")
    assert what.endswith(f" or of {tempfile.gettempdir()} is full")
    assert f": the disk of {kept.parents[1]} or" in what
    assert cure == "make room there, or point XDG_CACHE_HOME or TMPDIR elsewhere"


def test_the_lock_names_no_host() -> None:
    """Where packages come from is the settings of whoever fetches them."""
    assert b"://" not in Recipe().lock


def test_the_lock_needs_no_markers() -> None:
    """Pip would judge a marker by the Python that runs it, not by the image's."""
    assert b";" not in Recipe().lock
