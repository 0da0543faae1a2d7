import email
import json
import re
import subprocess
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import runner
from tests.packaging.conftest import ROOT

# They build a release first.
pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement: str) -> str:
    """The package that a requirement asks for, as an index spells it."""
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower()


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """What a package index knows of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def description(metadata: Message) -> str:
    """The page that a package index shows."""
    payload = metadata.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


def kept() -> set[str]:
    """The files of the checkout that Git has, or would take."""
    line = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    """Whatever its kind, and the Dockerfile; nothing else but what describes the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {name for name in kept() if name.startswith("runner/")}
    assert names == package | {"runner/image/Dockerfile"}
    assert {"runner/py.typed", "runner/image/image.lock"} < names


def test_the_source_distribution_has_every_file_of_the_project(release: Path) -> None:
    """So that the tests can be run from it; no file of a run or of a tool is in it."""
    (path,) = release.glob("dist/*.tar.gz")
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert names == kept() | {"PKG-INFO"}


def test_the_version_is_that_of_the_package(metadata: Message) -> None:
    """It is written in one place."""
    assert metadata["Version"] == runner.__version__


def test_licence_and_pythons_are_told(metadata: Message) -> None:
    """In the form that the action that publishes understands."""
    assert metadata["Metadata-Version"] == "2.4"
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    classifiers = metadata.get_all("Classifier", [])
    for minor in (11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in classifiers
    assert not [each for each in classifiers if each.startswith("License ::")]


def test_the_description_leads_nowhere_that_is_not_there(description: str) -> None:
    """Of the README's links those to other files are text there, and its pictures are left out."""
    links = re.findall(r"\]\(([^)\s]+)", description)
    assert links
    assert [link for link in links if not link.startswith("https:")] == []
    assert "![" not in description
    assert "<img" not in description


def test_the_description_is_the_readme_for_the_rest(description: str) -> None:
    """With every heading and every block of code."""
    readme = (ROOT / "README.md").read_text()
    for kind in (r"^#+ .*$", r"^```\w+\n.*?^```$"):
        pattern = re.compile(kind, re.MULTILINE | re.DOTALL if "```" in kind else re.MULTILINE)
        assert pattern.findall(description) == pattern.findall(readme) != []


def test_what_the_package_needs_is_listed(release: Path) -> None:
    """With the versions that are installed, each dependency at the package itself."""
    text = (release / f"sbom/evalset-{runner.__version__}.cdx.json").read_text()
    content = json.loads(text)
    root = content["metadata"]["component"]
    assert (root["name"], root["version"]) == ("evalset", runner.__version__)
    found = {each["name"].lower(): each["version"] for each in content["components"]}
    wanted = {name_of(each) for each in PROJECT["dependencies"]}
    assert wanted < set(found)
    assert {"urllib3", "certifi"} < set(found)
    (direct,) = [each for each in content["dependencies"] if each["ref"] == root["bom-ref"]]
    assert {name_of(each) for each in direct["dependsOn"]} == wanted
    assert str(ROOT) not in text


def test_what_the_image_holds_is_listed(release: Path) -> None:
    """Every package of the locks, in its version."""
    content = json.loads(
        (release / f"sbom/evalset-{runner.__version__}.image.cdx.json").read_text()
    )
    found = {(each["name"], each["version"]) for each in content["components"]}
    lock = "".join((ROOT / f"runner/image/{it}.lock").read_text() for it in ("image", "data"))
    assert found == set(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
