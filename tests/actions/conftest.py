import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from docker.errors import ImageNotFound

from tests.actions.files import ROOT
from tests.conftest import OURS, Place, engine_api, until
from tests.image_registry import serving

CHECKOUT = Path(__file__).with_name("checkout")
BIN = Path(sys.executable).parent
# `a-user` with the password `a-token`, as bcrypt has it.
USERS = "a-user:$2b$04$Owkd7Zk4VXKCzGBkXt9i5u3nmmp3Pl1gk17ogfX7g0b.jep/MC1Fe\n"
LOGIN = ("--secret", "IMAGE_REGISTRY_USER=a-user", "--secret", "IMAGE_REGISTRY_TOKEN=a-token")
# Which part of each line of act's is a step's own output.
OUTPUT = re.compile(r"^\[[^]]*\] +\| (.*)$", re.MULTILINE)


class Ended(msgspec.Struct, frozen=True):
    """How a run of a workflow ended.

    Attributes:
        status: 0 if all of its jobs were well.
        log: all that act said.
    """

    status: int
    log: str

    @property
    def output(self) -> list[str]:
        """The lines that the steps of all jobs printed."""
        return [line.rstrip("\r") for line in OUTPUT.findall(self.log)]


class Repository(msgspec.Struct, frozen=True):
    """A user's repository with our workflow in it, and a bare one that stands in for GitHub's.

    Attributes:
        place: the test's folder, and what image its evals run in.
    """

    place: Place

    @property
    def remote(self) -> Path:
        """What is pushed to."""
        return self.place.folder / "remote.git"

    @property
    def checkout(self) -> Path:
        """What the workflow is run from."""
        return self.place.folder / "checkout"

    @property
    def jobs(self) -> Path:
        """Where act keeps the files of the jobs that run."""
        return self.place.folder / "jobs"

    def registry(self, *names: str) -> None:
        """Commit a registry with an eval set `s` of these evals."""
        msgspec.structs.replace(self.place, folder=self.checkout).registry(*names)
        self.commit()

    def commit(self) -> None:
        """Push all that is in the checkout."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "State of the test")
        self.git("push", "--quiet", str(self.remote), "main")

    def git(self, *arguments: str) -> str:
        """Run Git in the checkout."""
        return self._git(self.checkout, *arguments)

    def on_branch(self, path: str, branch: str = "evalset/m.s") -> str:
        """A file of the progress branch; empty if there is none."""
        try:
            return self._git(self.remote, "show", f"{branch}:{path}")
        except subprocess.CalledProcessError:
            return ""

    @contextmanager
    def running(
        self, *options: str, event: str = "workflow_dispatch", **inputs: str
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Start the workflow with these inputs, and see to it that it ends with the block."""
        line: list[str | Path] = [
            BIN / "act",
            event,
            "--platform",
            "ubuntu-latest=-self-hosted",
            "--pull=false",
        ]
        line += ["--no-cache-server", "--action-cache-path", self.jobs, "--concurrent-jobs", "3"]
        line += ["--no-skip-checkout", "--local-repository", f"{checkout_action()}={CHECKOUT}"]
        line += ["--env", f"REMOTE_OF_TEST=file://{self.remote}", *options]
        for name, value in inputs.items():
            line += ["--input", f"{name.replace('_', '-')}={value}"]
        with (
            self._log.open("wb") as log,
            subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.checkout,
                env=self.environ(),
                start_new_session=True,
            ) as process,
        ):
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)
                    process.wait(30)

    def ended(self, process: "subprocess.Popen[bytes]") -> Ended:
        """Wait for the end of a workflow."""
        process.wait(120)
        return Ended(process.returncode, self._log.read_text(errors="replace"))

    def run(self, *options: str, event: str = "workflow_dispatch", **inputs: str) -> Ended:
        """Run the workflow with these inputs."""
        with self.running(*options, event=event, **inputs) as process:
            return self.ended(process)

    def environ(self) -> dict[str, str]:
        """What act gets: nothing of this machine's that counts, and the programs under test."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        own = {
            "HOME": str(self.place.folder),
            "XDG_CACHE_HOME": str(self.place.cache),
            "PATH": f"{BIN}:{kept['PATH']}",
        }
        return kept | own

    def evalset_of(self, shard: str) -> int:
        """The process id of the runner that works on a shard, once there is one."""

        def find() -> int:
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    environ = (folder / "environ").read_bytes().split(b"\0")
                    line = (folder / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if (
                    f"EVALSET_SHARD={shard}".encode() in environ
                    and f"HOME={self.place.folder}".encode() in environ
                    and any(word.endswith(b"/evalset") for word in line)
                ):
                    return int(folder.name)
            return 0

        return until(find, 60)

    def finished(self, branch: str = "evalset/m.s") -> list[str]:
        """The evals that the progress file on the branch has, in its order."""
        lines = self.on_branch("oaievalset/m.s.progress.txt", branch).splitlines()
        return [json.loads(line)[2] for line in lines]

    def successes(self) -> list[str]:
        """The evals of the attempts on the branch that succeeded, sorted."""
        lines = self.on_branch("oaievalset/m.s.attempts.jsonl").splitlines()
        records = map(json.loads, lines)
        return sorted(record["eval"] for record in records if record["result"] == "success")

    def waiting(self) -> list[Path]:
        """The private folders of evals that wait, in any job."""
        folders = self.jobs.glob("*/hostexecutor/progress/.attempts/*")
        labels = {"label": "evalset.attempt"}
        return [
            folder
            for folder in folders
            if b"waiting"
            in b"".join(
                engine_api().logs(one["Id"])
                for one in engine_api().containers(filters=labels)
                if one["Labels"]["evalset.attempt"] == folder.name
            )
        ]

    def end_machines(self) -> None:
        """Remove what jobs have left at the engine, as it goes with GitHub's machines."""
        for container in engine_api().containers(all=True):
            if container["Labels"].get("evalset.progress", "").startswith(str(self.jobs)):
                engine_api().remove_container(container["Id"], force=True, v=True)

    def let_go(self) -> bool:
        """Tell the evals that wait to end; whether there were any."""
        found = self.waiting()
        for folder in found:
            (folder / "go").touch()
        return bool(found)

    @property
    def _log(self) -> Path:
        return self.place.folder / "act.log"

    def _git(self, folder: Path, *arguments: str) -> str:
        own = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in NAMES}
        ended = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=self.environ() | own,
            capture_output=True,
            text=True,
            check=True,
        )
        return ended.stdout


NAMES = ("NAME", "EMAIL")


def checkout_action() -> str:
    """The one action that the workflow uses, as it is pinned there."""
    text = (ROOT / ".github/workflows/evalset.yml").read_text()
    (found,) = set(re.findall(r"uses: (\S+)", text))
    assert found.startswith("actions/checkout@")
    return str(found)


@pytest.fixture
def repository(place: Place) -> Iterator[Repository]:
    """A repository with our workflow and nothing else in it yet."""
    found = Repository(place)
    found.remote.mkdir()
    found.checkout.mkdir()
    shutil.copytree(ROOT / ".github", found.checkout / ".github")
    for name in ("ci.yml", "docs.yml", "release.yml"):
        (found.checkout / ".github/workflows" / name).unlink()
    found._git(found.remote, "init", "--quiet", "--bare", ".")
    found.git("init", "--quiet", "--initial-branch", "main", ".")
    found.git("remote", "add", "origin", "https://github.com/me/evals")
    yield found
    found.end_machines()


@pytest.fixture
def image_registry(tmp_path: Path) -> Iterator[str]:
    """An image registry that asks who is there; gives its `host:port`."""
    folder = tmp_path / "image-registry"
    folder.mkdir()
    with serving(folder, users=USERS) as address:
        yield address
        forget_images(address)


def forget_images(address: str) -> None:
    """Let the engine be one that has pulled nothing from this image registry."""
    for found in engine_api().images():
        for name in [*(found["RepoTags"] or ()), *(found["RepoDigests"] or ())]:
            if name.startswith(address):
                with suppress(ImageNotFound):  # the last tag takes the digest along
                    engine_api().remove_image(name)
