import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import msgspec

from runner.errors import EnvironmentFault
from runner.files import make_folder, named, read_bytes
from runner.gateway.messages import PROTOCOL, Account, Admission, Config, Standing, ask
from runner.gateway.providers import INSIDE, Route
from runner.model import Job, Problem
from runner.records.folders import remove_tree
from runner.records.layout import Layout
from runner.records.run_lock import is_held

if TYPE_CHECKING:
    from concurrent.futures import Future

# Seconds in which a gateway has to start; without an answer, after which it is taken to hang;
# between two looks at it, and between two while it does not answer.
START = 20.0
HANGS = 10.0
LOOK = 1.0
SOON = 0.05

# How often a gateway may fail to start before the run is told.
TRIES = 3

MODULE = "runner.gateway"

# Errors of asking a gateway that is not there, is about to end, or refuses.
ERRORS = (OSError, LookupError, msgspec.DecodeError)

FORWARDER = Path(__file__).with_name("forward.py")

# Where a container finds its socket and the forwarder.
PLACE = "/evalset"

# Precedes an eval's command, so that it reaches the gateway at 127.0.0.1.
FORWARD = ("python3", "-S", "-E", f"{PLACE}/{FORWARDER.name}")


def loopback_of(attempt: str) -> str:
    """The loopback address of an attempt that shares its loopback, as in the host's network."""
    first, second, third, *_ = hashlib.sha256(attempt.encode()).digest()
    return f"127.{first}.{second}.{1 + third % 254}"


def moved_to(address: str, name: str, value: str) -> str:
    """The value of a variable if the gateway is reached at another address."""
    if name.lower() == "no_proxy":
        return f"{value},{address}"
    return value.replace(INSIDE, INSIDE.replace("127.0.0.1", address))


class Door(Protocol):
    """Lets attempts send requests; the gateway, or what leads to it from another host."""

    def enter(self, job: Job, attempt: str) -> Path:
        """Let an attempt send requests; return the folder that its container sees as `/evalset`."""

    def account(self, attempt: str) -> Account:
        """What an attempt has done up to now."""

    def leave(self, attempt: str) -> Account:
        """An attempt has ended."""


class Gateway:
    """The gateway of one model and eval set, as a run sees it, while a `with` block lasts.

    It is a process of its own that outlives a killed run, as containers do. The block starts it,
    because that takes as long as what a run has to do before its first container.

    Attributes:
        tell: is told of each kind of problem once: its kind, and one line.
        warn: is told of anything else that a run should know, once: one line.
    """

    def __init__(
        self,
        layout: Layout,
        config: Config,
        tell: Callable[[Problem, str], None] = lambda *_: None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._layout = layout
        self._folder = layout.gateway
        self._config = config
        self.tell = tell
        self.warn = warn
        self._told: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._admitted: dict[str, Admission] = {}
        # What attempts did at gateways that are gone, and at this one up to the last look at it.
        self._before: dict[str, Account] = {}
        self._seen: dict[str, Account] = {}
        self._pid = 0
        self._silent_since: float | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._watching, name="gateway-watch", daemon=True)

    def __enter__(self) -> Self:
        if not is_held(self._folder / "lock"):
            self._spawn()
        return self

    def __exit__(self, *_: object) -> None:
        if self._watch.ident is not None:
            self.end()
        elif self._process is not None:
            self._process.kill()  # it was never used, so that nothing is lost
            self._process.communicate()
            tidy(self._folder)

    def start(self) -> None:
        """Start it, or take over the one that a killed run left; it answers a moment later."""
        if not self._took_over():
            self._launch()
        self._watch.start()

    def _took_over(self) -> bool:
        """Take over a gateway that a killed run left; end it if it is of another version."""
        standing = self._standing()
        if standing is None:
            return False
        if standing.protocol != PROTOCOL:
            end_process(self._folder)
            return False
        try:
            self._ask("PUT", "/config", self._config)
        except ERRORS:  # it ended at this moment
            return False
        return True

    def _launch(self) -> None:
        """Send a new process its configuration."""
        if self._process is None or self._process.stdin is None or self._process.stdin.closed:
            self._spawn()
        pipe = self._process and self._process.stdin
        assert pipe  # noqa: S101 - for the type checker
        with suppress(BrokenPipeError), pipe:
            pipe.write(msgspec.json.encode(self._config))

    def _spawn(self) -> None:
        """Start a process, which waits for its configuration."""
        log = self._folder / "gateway.log"
        with named(log, "write"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", MODULE, str(self._folder)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    env=_bare(os.environ),
                    start_new_session=True,
                )

    def enter(self, job: Job, attempt: str) -> Path:
        """Let an attempt send requests; return the folder that its container sees as `/evalset`."""
        folder = self._folder / "attempts" / attempt
        make_folder(folder)
        with named(folder, "write"):
            shutil.copyfile(FORWARDER, folder / FORWARDER.name)
        admission = Admission(
            attempt=attempt,
            folder=str(folder),
            answers=str(self._layout.answers_of(job.command)),
        )
        with self._lock:
            self._admitted[attempt] = admission
        with suppress(*ERRORS):  # if this failed, the watch does it later
            self._ask("POST", "/attempts", admission)
        return folder

    def account(self, attempt: str) -> Account:
        """What an attempt has done up to the last look."""
        self._look()
        with self._lock:
            seen = self._seen.get(attempt, Account())
            return self._before.get(attempt, Account()) + seen

    def leave(self, attempt: str) -> Account:
        """An attempt has ended."""
        self._look()
        with self._lock:
            self._admitted.pop(attempt, None)
        try:
            said = self._ask("DELETE", f"/attempts/{attempt}")
            last = msgspec.json.decode(said, type=Account)
        except ERRORS:
            last = None
        with self._lock:
            seen = self._seen.pop(attempt, Account())
            account = self._before.pop(attempt, Account()) + (last or seen)
        if account.stopped:
            self._tell_once(account.kind, account.stopped)
        with suppress(OSError):
            remove_tree(self._folder / "attempts" / attempt)
        return account

    def _look(self) -> Standing | None:
        """Look whether the gateway answers, and what attempts have done at it."""
        standing = self._standing()
        now = time.monotonic()
        with self._lock:
            if standing is None:
                self._silent_since = self._silent_since or now
                return None
            if self._pid not in {0, standing.pid}:
                # No attempt could send anything meanwhile, and older requests are broken off.
                away = now - self._silent_since if self._silent_since else 0.0
                for attempt, seen in self._seen.items():
                    before = self._before.get(attempt, Account())
                    self._before[attempt] = before + seen + Account(waited=away)
                self._seen.clear()
            self._pid = standing.pid
            self._silent_since = None
            self._seen.update(standing.attempts)
        return standing

    def check(self, asked: Sequence[tuple[Route, str]]) -> None:
        """Ask providers whether they answer, accept the key, and have the model, if one is given.

        Raises:
            EnvironmentFault: the first of them does not.
        """
        from runner.gateway.check import begin  # noqa: PLC0415 - the gateway's process needs none

        begun = [begin(route, model, self._config.environment) for route, model in asked]
        for each in begun:
            each.result()

    def check_later(self, routes: Iterable[Route], warn: Callable[[str], None]) -> None:
        """Ask providers whether they answer; `warn` is told of those that do not, when it knows."""
        from runner.gateway.check import begin  # noqa: PLC0415 - as above

        def warn_of(done: "Future[None]") -> None:
            if (fault := done.exception()) is not None:
                warn(str(fault))

        for route in routes:
            begin(route, "", self._config.environment).add_done_callback(warn_of)

    def _broken(self) -> EnvironmentFault:
        lines = read_bytes(self._folder / "gateway.log").decode(errors="replace").split("\n")
        said = next((line for line in reversed(lines) if line.strip()), "it says nothing")
        return EnvironmentFault(
            f"the gateway does not start: {said}", "--no-gateway runs without it"
        )

    def end(self) -> None:
        """Tell it to end once what it has sent is on record; this does not wait for that."""
        self._over.set()
        self._watch.join()
        with suppress(*ERRORS):
            self._ask("POST", "/end")

    def _watching(self) -> None:
        started = time.monotonic()
        silent_since: float | None = started
        serves = False
        fruitless = 0
        while not self._over.wait(LOOK if silent_since is None else SOON):
            looked = time.monotonic()
            standing = self._look()
            if standing is not None:
                silent_since, serves, fruitless = None, True, 0
                self._told_of(standing)
                self._admit_again(standing)
                continue
            now = time.monotonic()
            silent_since = silent_since or looked
            dead = self._process is None or self._process.poll() is not None
            patience = HANGS if serves else START
            if (dead and now - started > 1) or now - silent_since >= patience:
                fruitless += 1
                if fruitless == TRIES:
                    self._tell_once(Problem.GATEWAY, str(self._broken()))
                self._kill()
                self._launch()
                started = silent_since = time.monotonic()
                serves = False

    def _told_of(self, standing: Standing) -> None:
        for kind, text in standing.problems.items():
            self._tell_once(kind, text)
        for text in standing.warnings:
            if self._is_new(text):
                self.warn(text)

    def _tell_once(self, kind: Problem, text: str) -> None:
        if self._is_new(kind):
            self.tell(kind, text)

    def _is_new(self, what: str) -> bool:
        with self._lock:
            new = what not in self._told
            self._told.add(what)
        return new

    def _admit_again(self, standing: Standing) -> None:
        """Tell a gateway that was started again about the attempts under way."""
        with self._lock:
            missing = [
                admission
                for attempt, admission in self._admitted.items()
                if attempt not in standing.attempts
            ]
        for admission in missing:
            with suppress(*ERRORS):
                self._ask("POST", "/attempts", admission)
                if admission.attempt not in self._admitted:  # it has ended meanwhile
                    self._ask("DELETE", f"/attempts/{admission.attempt}")

    def _standing(self) -> Standing | None:
        try:
            return msgspec.json.decode(self._ask("GET", "/"), type=Standing)
        except ERRORS:
            return None

    def _kill(self) -> None:
        """End a gateway that hangs, so that another one can take its place."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        end_process(self._folder)

    def _ask(self, method: str, path: str, body: object = None) -> bytes:
        content = None if body is None else msgspec.json.encode(body)
        return ask(self._folder, method, path, content, timeout=HANGS)


def end_process(folder: Path) -> bool:
    """Kill the gateway that works in a folder, whoever started it; return whether none is left."""
    until = time.monotonic() + START
    while is_held(folder / "lock"):
        if time.monotonic() > until:
            return False
        with suppress(OSError, ValueError):
            pid = int((folder / "pid").read_text())
            argv = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
            # Another process may have the number by now.
            if MODULE.encode() in argv and os.fsencode(folder) in argv:
                os.kill(pid, signal.SIGKILL)
        time.sleep(SOON)
    return True


def tidy(folder: Path) -> None:
    """Remove a gateway's folder, except for its errors and the files of a new gateway."""
    log = folder / "gateway.log"
    with suppress(OSError):
        written = log.exists() and log.stat().st_size
        for name in ("control.sock", "pid", *(() if written else ("gateway.log", "lock"))):
            (folder / name).unlink(missing_ok=True)
        for path in (folder / "attempts", folder, folder.parent):
            if path.exists():
                path.rmdir()


def remove_abandoned(root: Path) -> None:
    """End and remove all gateways of a progress directory that no run is using."""
    folder = root / ".gateway"
    for each in folder.iterdir() if folder.is_dir() else ():
        if end_process(each):
            remove_tree(each)
    with suppress(OSError):
        folder.rmdir()


def _bare(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that a process needs to start Python, without any key."""
    names = ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR")
    kept = {name: environ[name] for name in names if name in environ}
    return kept | {name: value for name, value in environ.items() if name.startswith("PYTHON")}
