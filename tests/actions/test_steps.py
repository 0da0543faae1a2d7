"""What single steps of the workflow and the action do, run as scripts; none needs an engine."""

import base64
import subprocess
from pathlib import Path

import pytest

import runner
from tests.actions.files import ACTION, ROOT, run_script, script


def test_the_token_goes_to_githubs_host_and_to_no_other(tmp_path: Path) -> None:
    """It is in a file of ours alone, and its other form is hidden in logs, too."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    url = "https://github.example/me/evals"
    subprocess.run(["git", "remote", "add", "origin", url], cwd=tmp_path, check=True)
    ended = run_script(
        script("Give evalset a repository to push from"),
        tmp_path,
        TOKEN="a-token",  # noqa: S106 - made up
        GITHUB_SERVER_URL="https://github.example",
    )
    basic = base64.b64encode(b"x-access-token:a-token").decode()
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"::add-mask::{basic}\n", "")
    repository = tmp_path / "snapshots.git"

    def header(url: str) -> str:
        line = ["git", "config", "--get-urlmatch", "http.extraheader", url]
        found = subprocess.run(line, cwd=repository, capture_output=True, text=True, check=False)
        return found.stdout.strip()

    assert header(url) == f"AUTHORIZATION: basic {basic}"
    assert header("https://github.example.org/me/evals") == ""
    assert (repository / "config").stat().st_mode & 0o077 == 0
    assert run_script("git remote get-url origin", repository).stdout.strip() == url


def test_the_action_gives_each_use_of_it_its_own_repository(tmp_path: Path) -> None:
    """So that a job may use it twice; each pushes with one header of its own."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    url = "https://github.example/me/evals"
    subprocess.run(["git", "remote", "add", "origin", url], cwd=tmp_path, check=True)
    outputs = tmp_path / "outputs"
    for token in ("a-token", "another"):
        ended = run_script(
            script("Give evalset a repository to push from", ACTION),
            tmp_path,
            TOKEN=token,
            GITHUB_SERVER_URL="https://github.example",
            GITHUB_OUTPUT=str(outputs),
        )
        assert ended.returncode == 0, ended.stderr
    folders = [Path(line.removeprefix("folder=")) for line in outputs.read_text().splitlines()]
    assert len(set(folders)) == 2
    for folder in folders:
        assert (folder / "config").read_text().count("extraheader") == 1
        assert folder.stat().st_mode & 0o077 == 0


def test_the_action_installs_the_same_once(tmp_path: Path) -> None:
    """And anew what is something else, with nothing of the other left."""
    text = script("Install evalset", ACTION)
    python = tmp_path / "python3"
    python.write_text(
        '#!/bin/sh\nmkdir -p "$3/bin" && printf \'#!/bin/sh\\necho pip "$4"\\n\' > "$3/bin/pip"\n'
        'chmod +x "$3/bin/pip"\n'
    )
    python.chmod(0o755)

    def install(requirement: str) -> str:
        ended = run_script(
            text,
            tmp_path,
            path=str(tmp_path),
            REQUIREMENT=requirement,
            GITHUB_ACTION_PATH="/action/.github/actions/evalset",
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    came_with = "pip /action/.github/actions/evalset/../../..\n"
    asked = ("", "", "other", "other", "installed", "")
    assert [install(one) for one in asked] == [came_with, "", "pip other\n", "", "", came_with]


@pytest.mark.slow  # pip installs the package
def test_evalset_is_installed_for_the_steps_that_follow(tmp_path: Path) -> None:
    """From a checkout, or from whatever else pip takes; or not at all where it is there."""
    text = script("Install evalset")
    path = tmp_path / "path"
    path.touch()
    assert (
        run_script(text, tmp_path, GITHUB_PATH=str(path), REQUIREMENT="installed").returncode == 0
    )
    assert path.read_text() == ""
    ended = run_script(text, tmp_path, GITHUB_PATH=str(path), REQUIREMENT=str(ROOT))
    assert ended.returncode == 0, ended.stderr
    ended = run_script("evalset --version", tmp_path, path=path.read_text().strip())
    assert ended.stdout == f"evalset {runner.__version__}\n"


def test_pip_gets_to_read_a_private_evalset(tmp_path: Path) -> None:
    """With the token for it, which goes to GitHub's host alone; without one it has no header."""
    git = "git config --get-urlmatch http.extraheader"
    asking = f"{git} https://github.example/o/evalset; {git} https://github.example.org/o; true"
    python = tmp_path / "python3"
    python.write_text(
        f'#!/bin/sh\nmkdir -p "$3/bin" && echo "{asking}" > "$3/bin/pip" && chmod +x "$3/bin/pip"\n'
    )
    python.chmod(0o755)
    for token, header in (
        ("a-token", base64.b64encode(b"x-access-token:a-token").decode()),
        ("", ""),
    ):
        ended = run_script(
            script("Install evalset"),
            tmp_path,
            path=str(tmp_path),
            REQUIREMENT="git+https://github.example/o/evalset",
            TOKEN=token,
            GITHUB_SERVER_URL="https://github.example",
            GITHUB_PATH=str(tmp_path / "path"),
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        shown = f"::add-mask::{header}\nAUTHORIZATION: basic {header}\n" if token else ""
        assert ended.stdout == shown


def test_a_job_whose_image_came_out_different_stops(tmp_path: Path) -> None:
    """Its evals would not be those that the others run."""
    (tmp_path / "evalset").write_text('#!/bin/sh\n[ "$2" = build ] || echo "fingerprint: new"\n')
    (tmp_path / "evalset").chmod(0o755)
    text = script("Build the image that was planned with")
    assert run_script(text, tmp_path, path=str(tmp_path), PLANNED="new").returncode == 0
    ended = run_script(text, tmp_path, path=str(tmp_path), PLANNED="old")
    assert ended.returncode == 1
    assert ended.stdout.startswith("::error::the image built here (new) is not the one")
    assert ended.stdout.count("\n") == 1


PUSHING = """#!/bin/sh
case $1 in
  push) echo "evalset: $PUSHED size: 1234" ;;
  image) echo me/evals@sha256:of-another-push ;;
esac
"""


def test_an_image_of_docker_io_is_handed_on_by_its_digest(tmp_path: Path) -> None:
    """Docker itself leaves that host out of the name. A push that names no digest is an error."""
    for name, text in (("docker", PUSHING), ("evalset", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    digest = f"sha256:{'ab' * 32}"
    outputs = tmp_path / "outputs"

    def push(said: str) -> "subprocess.CompletedProcess[str]":
        return run_script(
            script("Make the image, and push it if there is an image registry"),
            tmp_path,
            path=str(tmp_path),
            IMAGE="",
            IMAGE_REGISTRY="docker.io/me/evals",
            GITHUB_OUTPUT=str(outputs),
            PUSHED=said,
        )

    assert push(f"digest: {digest}").returncode == 0
    assert outputs.read_text() == f"image=docker.io/me/evals@{digest}\n"
    ended = push("nothing")
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1] == (
        "::error::docker push docker.io/me/evals:evalset named no digest for the jobs to pull"
    )
