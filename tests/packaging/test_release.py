"""What can be said of our own workflows, which only GitHub can run as a whole."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import runner
from tests.actions.files import FOLDER, ROOT, read, run_script, script, steps

CI = read(FOLDER / "workflows/ci.yml")
RELEASE = read(FOLDER / "workflows/release.yml")
# Whose code takes part in a release, besides our own.
TRUSTED = {
    "actions/attest-build-provenance",
    "actions/attest-sbom",
    "actions/checkout",
    "actions/download-artifact",
    "actions/upload-artifact",
    "pypa/gh-action-pypi-publish",
}
VERSION = runner.__version__


def used(job: str) -> dict[str, dict[str, Any]]:
    """The actions of a job of the release, with what each is given."""
    found = [step for name, step in steps(RELEASE) if name == job and "uses" in step]
    return {step["uses"].partition("@")[0]: step.get("with", {}) for step in found}


def test_it_publishes_what_is_released_and_at_no_other_time() -> None:
    """No push, no tag, no button."""
    assert RELEASE["on"] == {"release": {"types": ["published"]}}


def test_every_action_is_pinned_by_hash() -> None:
    """With the version next to it, and no other action takes part."""
    text = (FOLDER / "workflows/release.yml").read_text()
    lines = [line for line in re.findall(r"uses: (.+)", text) if not line.startswith("./")]
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in lines)
    assert {line.partition("@")[0] for line in lines} == TRUSTED


def test_each_job_may_do_what_it_is_for_and_no_more() -> None:
    """The one that runs our code may sign nothing; the one that publishes runs none of it."""
    assert RELEASE["permissions"] == {}
    assert {name: job["permissions"] for name, job in RELEASE["jobs"].items()} == {
        "test": {"contents": "read"},
        "build": {"contents": "read"},
        "attest": {"id-token": "write", "attestations": "write"},
        "publish": {"id-token": "write"},
        "attach": {"contents": "write"},
    }
    publishing = [step for name, step in steps(RELEASE) if name == "publish"]
    assert not [step for step in publishing if "run" in step]
    assert RELEASE["jobs"]["publish"]["environment"] == "pypi"


def test_no_secret_is_needed() -> None:
    """PyPI trusts the workflow, and not whoever has a password."""
    text = (FOLDER / "workflows/release.yml").read_text()
    assert "secrets." not in text
    assert set(used("publish")["pypa/gh-action-pypi-publish"]) == {"packages-dir", "attestations"}


def test_nothing_is_published_that_is_not_tested_and_signed() -> None:
    """The jobs wait for each other, and the tests are all of CI's."""
    jobs = RELEASE["jobs"]
    assert jobs["test"]["uses"] == "./.github/workflows/ci.yml"
    assert "workflow_call" in CI["on"]
    needs = {name: job.get("needs", []) for name, job in jobs.items()}
    assert needs == {
        "test": [],
        "build": [],
        "attest": ["test", "build"],
        "publish": "attest",
        "attach": "publish",
    }


def test_what_is_uploaded_is_what_was_built() -> None:
    """It lies where no later build takes it for a file of the project."""
    text = script("Build the distributions, and list what they contain", RELEASE)
    folder = shlex.split(text)[1]
    assert used("build")["actions/upload-artifact"]["path"] == f"{folder}/"
    assert f"{folder}/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.slow
def test_what_is_signed_and_published_is_what_was_built(release: Path, tmp_path: Path) -> None:
    """The paths of the jobs are those of the files that the build makes."""
    shutil.copytree(release, tmp_path / "release")
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("release/*/*")}
    signed = used("attest")["actions/attest-build-provenance"]["subject-path"]
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.glob(signed)} == made
    folder = tmp_path / used("publish")["pypa/gh-action-pypi-publish"]["packages-dir"]
    assert sorted(path.name for path in folder.iterdir()) == [
        f"evalset-{VERSION}-py3-none-any.whl",
        f"evalset-{VERSION}.tar.gz",
    ]
    outputs = tmp_path / "outputs"
    text = script("Find the list of what the package contains", RELEASE)
    assert run_script(text, tmp_path, GITHUB_OUTPUT=str(outputs)).returncode == 0
    assert outputs.read_text() == f"path=release/sbom/evalset-{VERSION}.cdx.json\n"


@pytest.mark.slow
def test_all_of_it_is_attached_to_the_release(release: Path, tmp_path: Path) -> None:
    """The distributions, and what they come with."""
    shutil.copytree(release, tmp_path / "release")
    (tmp_path / "gh").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "gh").chmod(0o755)
    text = script("Attach everything to the release", RELEASE)
    ended = run_script(text, tmp_path, path=str(tmp_path), TAG="v1 2")
    assert ended.stdout.splitlines() == [
        *("release", "upload", "v1 2"),
        f"release/dist/evalset-{VERSION}-py3-none-any.whl",
        f"release/dist/evalset-{VERSION}.tar.gz",
        f"release/sbom/evalset-{VERSION}.cdx.json",
        f"release/sbom/evalset-{VERSION}.image.cdx.json",
        "--clobber",
    ]


@pytest.fixture
def about_to_release(tmp_path: Path) -> Path:
    """A checkout whose version is 1.2.3, and whose tools are missing."""
    for name in ("scripts", "runner"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "scripts/release", tmp_path / "scripts")
    (tmp_path / "runner/__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3, unreleased\n")
    return tmp_path


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("v1.2.4", "the tag is v1.2.4, and runner/__init__.py has version 1.2.3; change one"),
        ("v1.2.3", "CHANGELOG.md has no heading `## 1.2.3, YEAR-MONTH-DAY`"),
    ],
)
def test_a_tag_that_is_not_ready_is_refused(about_to_release: Path, tag: str, words: str) -> None:
    """Before anything is built."""
    line = [str(about_to_release / "scripts/release"), str(about_to_release / "out"), tag]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"release: {words}")
    assert ended.stderr.count("\n") == 1
    assert not (about_to_release / "out").exists()


def test_a_tag_that_is_ready_goes_on(about_to_release: Path) -> None:
    """To the folder, which must be empty, because all that is in it would be published."""
    heading = "## 1.2.3, 2030-01-31"
    (about_to_release / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n")
    (about_to_release / "out").mkdir()
    (about_to_release / "out/left").touch()
    line = [str(about_to_release / "scripts/release"), str(about_to_release / "out"), "v1.2.3"]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.partition("/out")[2]) == (
        2,
        " is not empty; name another folder\n",
    )
