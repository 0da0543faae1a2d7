"""The engine of another host, as if its socket were here."""

import atexit
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from runner.engine.engine import Engine
from runner.errors import EnvironmentFault
from runner.hosts.check import check
from runner.hosts.ssh import LOCAL, OPTIONS, HostName, Unusable, parse_hosts, refusal

# Seconds in which ssh has to connect.
PATIENCE = 20.0


def engine_for(hosts: Iterable[str]) -> Engine:
    """The engine that images are looked up in: this machine's, or else one of the hosts'."""
    try:
        return Engine()
    except EnvironmentFault:
        return borrow(parse_hosts(hosts))


def borrow(hosts: Iterable[HostName]) -> Engine:
    """The engine of the first host that can be used; this process keeps the way to it.

    Raises:
        EnvironmentFault: none can be used.
    """
    problems = []
    for host in hosts:
        if host.name == LOCAL:
            continue
        try:
            socket = _forwarded(host.name, check(host.name, least=0).socket)
            return Engine(socket, lender=host.name)
        except Unusable as error:
            problems.append(str(error))
    fault = EnvironmentFault(
        "no Docker engine is here, and no host of --hosts can be used", "see the lines above"
    )
    for problem in problems:
        fault.add_note(f"warning: {problem}")
    raise fault


def _forwarded(host: str, socket: str) -> str:
    """A path here that leads to a socket on a host, until this process ends."""
    folder = tempfile.TemporaryDirectory(prefix="evalset-engine-")
    path = Path(folder.name, "docker.sock")
    forward = ("-o", "ExitOnForwardFailure=yes", "-L", f"{path}:{socket}")
    # It ends with its standard input, and so with this process, however that ends.
    process = subprocess.Popen(
        ["ssh", *OPTIONS, *forward, "--", host, "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )

    def end() -> None:
        process.kill()
        process.communicate()
        folder.cleanup()

    atexit.register(end)
    until = time.monotonic() + PATIENCE
    while not path.exists():
        if process.poll() is not None:
            said = process.stderr.read() if process.stderr else b""
            raise refusal(host, process.returncode, said.decode(errors="replace"))
        if time.monotonic() > until:
            raise Unusable(f"{host} did not connect its engine within {PATIENCE:g} s", "try again")
        time.sleep(0.02)
    return str(path)
