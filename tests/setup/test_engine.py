import os
import shutil
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.setup.machine import ROOT, Machine, assert_says_one_line

FAKE_DOCKER = """#!/bin/sh
[ "$1" = context ] && echo default && exit
[ -e "$MACHINE/answering" ]
"""
FAKE_DOCKERD = """#!/bin/sh
[ -e "$MACHINE/var/run/docker.pid" ] && echo 'pid file found' && exit 1
touch "$MACHINE/answering"
"""
FAKE_APT = """#!/bin/sh
echo "$@" >> "$MACHINE/apt.log"
case "$*" in
    *install*) printf '#!/bin/sh\\ntouch "$MACHINE/answering"\\n' > "$MACHINE/bin/dockerd"
               chmod +x "$MACHINE/bin/dockerd" ;;
esac
"""


class Pong(socketserver.BaseRequestHandler):
    """Answers as an engine does."""

    def handle(self) -> None:
        """Read the question, say yes."""
        self.request.recv(1024)
        self.request.sendall(b"HTTP/1.0 200 OK\r\n\r\nOK")


@pytest.fixture
def zombie(tmp_path: Path) -> Iterator[int]:
    program = tmp_path / "dockerd"
    shutil.copy(shutil.which("true") or "/bin/true", program)
    with subprocess.Popen([program]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


@pytest.fixture
def living_engine(tmp_path: Path) -> Iterator[int]:
    program = tmp_path / "dockerd"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as process:
        yield process.pid
        process.kill()


@pytest.mark.docker
def test_an_engine_that_answers_is_left_alone() -> None:
    """With an engine there, the script says nothing and is done at once."""
    began = time.monotonic()
    done = subprocess.run(
        [ROOT / "scripts" / "engine"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - began < 2


def test_an_installed_engine_is_started(machine: Machine) -> None:
    """Without systemd dockerd is started in the background, and its log is named."""
    machine.has("docker", FAKE_DOCKER)
    machine.has("dockerd", FAKE_DOCKERD)
    done = machine.engine()
    assert done.returncode == 0, done
    assert str(machine.root / "var/log/evalset-dockerd.log") in done.stdout


def test_systemd_starts_the_engine_where_it_rules(machine: Machine) -> None:
    """Where systemd is in charge, its service is started and no dockerd of ours."""
    machine.has("docker", FAKE_DOCKER)
    machine.has("dockerd", "#!/bin/sh\nexit 1\n")
    machine.has("systemctl", '#!/bin/sh\n[ "$*" = "start docker" ] && touch "$MACHINE/answering"\n')
    (machine.root / "run" / "systemd" / "system").mkdir(parents=True)
    assert machine.engine().returncode == 0


def test_a_missing_engine_is_installed(machine: Machine) -> None:
    """On a bare Debian the engine and iptables come from the distribution's packages."""
    machine.has("docker", FAKE_DOCKER)
    machine.has("apt-get", FAKE_APT)
    assert machine.engine().returncode == 0
    assert "docker.io iptables" in (machine.root / "apt.log").read_text()


def test_without_a_docker_program_the_socket_is_asked(machine: Machine) -> None:
    """No docker command line is needed to see that no engine answers."""
    machine.has("python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    machine.is_system("fedora")
    assert_says_one_line(machine.engine(), "no Docker engine answers", "install one")


def test_without_a_docker_program_the_sockets_answer_counts(machine: Machine) -> None:
    """An engine that answers on its socket is found without the docker command line."""
    machine.has("python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    path = machine.root / "var" / "run" / "docker.sock"
    with socketserver.UnixStreamServer(str(path), Pong) as engine:
        threading.Thread(target=engine.handle_request).start()
        assert machine.engine().returncode == 0


def test_a_pid_file_of_no_process_is_removed(machine: Machine) -> None:
    """The pid file of a killed engine does not keep a new one from starting."""
    machine.has("docker", FAKE_DOCKER)
    machine.has("dockerd", FAKE_DOCKERD)
    machine.pid_file.write_text("999999999")
    assert machine.engine().returncode == 0
    assert not machine.pid_file.exists()


def test_a_pid_file_whose_id_was_given_away_is_removed(machine: Machine) -> None:
    """An id that is another program's by now does not pass for an engine."""
    machine.has("docker", FAKE_DOCKER)
    machine.has("dockerd", FAKE_DOCKERD)
    machine.pid_file.write_text(str(os.getpid()))
    assert machine.engine().returncode == 0


def test_a_pid_file_of_a_zombie_is_removed(machine: Machine, zombie: int) -> None:
    """A dockerd that is dead and not yet buried does not pass for an engine."""
    machine.has("docker", FAKE_DOCKER)
    machine.has("dockerd", FAKE_DOCKERD)
    machine.pid_file.write_text(f"{zombie}\n")
    assert machine.engine().returncode == 0


def test_a_living_engine_is_never_doubled(machine: Machine, living_engine: int) -> None:
    """While a dockerd with that id lives, its pid file stays and no second one is started."""
    machine.has("docker", FAKE_DOCKER)
    machine.has("dockerd", FAKE_DOCKERD)
    machine.pid_file.write_text(str(living_engine))
    done = machine.engine(EVALSET_ENGINE_PATIENCE="1")
    assert_says_one_line(done, "does not answer within 1 s", str(living_engine))
    assert machine.pid_file.exists()


def test_an_engine_that_does_not_start_shows_its_last_words(machine: Machine) -> None:
    """When dockerd ends at once, the end of its log is printed, and where all of it is."""
    machine.has("docker", FAKE_DOCKER)
    machine.has("dockerd", "#!/bin/sh\necho 'no space left'; exit 1\n")
    done = machine.engine()
    assert done.returncode == 3
    assert "no space left" in done.stderr
    assert "evalset-dockerd.log" in done.stderr


def test_elsewhere_a_line_says_what_to_install(machine: Machine) -> None:
    """On another system than Debian or Ubuntu nothing is installed."""
    machine.has("docker", FAKE_DOCKER)
    machine.has("apt-get", FAKE_APT)
    machine.is_system("fedora")
    assert_says_one_line(machine.engine(), "not a Debian or Ubuntu", "docs.docker.com")
    assert not (machine.root / "apt.log").exists()


def test_without_root_a_line_says_what_to_install(machine: Machine) -> None:
    """A user without root and without sudo is told, and not asked for a password."""
    machine.has("docker", FAKE_DOCKER)
    machine.has("apt-get", FAKE_APT)
    machine.is_user("1000")
    assert_says_one_line(machine.engine(), "this user is root", "docs.docker.com")


def test_a_docker_host_that_is_silent_is_named(machine: Machine) -> None:
    """Who points DOCKER_HOST somewhere gets no engine of another place behind their back."""
    machine.has("docker", FAKE_DOCKER)
    machine.has("dockerd", FAKE_DOCKERD)
    done = machine.engine(DOCKER_HOST="tcp://127.0.0.1:1")
    assert_says_one_line(done, "DOCKER_HOST=tcp://127.0.0.1:1", "unset DOCKER_HOST")


def test_a_docker_context_that_is_silent_is_named(machine: Machine) -> None:
    """A chosen Docker context counts as DOCKER_HOST does."""
    machine.has("docker", '#!/bin/sh\n[ "$1" = context ] && echo faraway\n[ "$1" = context ]\n')
    assert_says_one_line(machine.engine(), "context faraway", "docker context use default")
