"""What tests of the gateway's process work with: the process, and whoever asks through it."""

import http.client
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from runner.gateway.client import Gateway, end_process
from runner.gateway.messages import Account, Config, Standing, connect
from runner.gateway.providers import Route
from runner.model import Command, ContainerSettings, Job
from runner.records.layout import Layout
from tests.conftest import until
from tests.provider import KEY, Provider

CHAT = "/openai/v1/chat/completions"
JSON = {"Content-Type": "application/json"}

# Reading all that the machine trusts takes a fifth of a gateway's start; no provider of ours has a
# certificate.
NO_CERTIFICATES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a client got, whole; names of headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - as decoded
        """The body."""
        return json.loads(self.body)

    @property
    def bill(self) -> int:
        """The number of the bill that the answer's text names."""
        found = re.search(rb"bill (\d+)", self.text().encode())
        assert found, self
        return int(found[1])

    def text(self) -> str:
        """Of a chat answer, or of all events of a stream."""
        if not self.body.startswith(b"data:"):
            return str(self.json["choices"][0]["message"]["content"])
        lines = [line for line in self.body.split(b"\n") if line.startswith(b"data: {")]
        events = [json.loads(line.removeprefix(b"data: ")) for line in lines]
        return "".join(each["choices"][0]["delta"].get("content", "") for each in events)


def prompt(text: str = "one", **more: object) -> dict[str, object]:
    """The body of a chat request."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, folder: Path, name: str, timeout: float) -> None:
        super().__init__("gateway", timeout=timeout)
        self._place = folder, name

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = connect(*self._place, self.timeout)


class Caller:
    """Asks through an attempt's socket, as a program in its container does."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        """A connection that is open; the socket may not be there yet."""
        connection = Connection(self.folder, "api.sock", timeout)

        def opened() -> bool:
            with suppress(OSError):
                connection.connect()
                return True
            return False

        until(opened)
        return connection

    def ask(
        self,
        body: object = None,
        *,
        method: str = "POST",
        path: str = CHAT,
        headers: Mapping[str, str] = {},
        timeout: float = 30,
    ) -> Answer:
        """Ask, and read all of the answer."""
        with closing(self.begin(body, method, path, headers, timeout)) as connection:
            response = connection.getresponse()
            said = response.read()
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(status=response.status, headers=headers, body=said)

    def begin(
        self,
        body: object = None,
        method: str = "POST",
        path: str = CHAT,
        headers: Mapping[str, str] = {},
        timeout: float = 30,
    ) -> http.client.HTTPConnection:
        """Ask, and leave the answer to be read."""
        connection = self.connect(timeout)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, content, {**JSON, **headers})
        except OSError:
            connection.close()
            raise
        return connection

    def raw(self, *pieces: bytes) -> bytes:
        """Send bytes, and give all that comes until the connection ends or is silent."""
        with closing(self.connect(5)) as connection:
            heard = b""
            with suppress(OSError):
                for piece in pieces:
                    connection.sock.sendall(piece)
            with suppress(OSError):
                while more := connection.sock.recv(65536):
                    heard += more
            return heard


class Desk:
    """A gateway that runs, with a stub as the provider `openai`.

    Attributes:
        told: what the gateway's client was told, by kind.
        warned: of what it was warned.
        prefix: of the names of all attempts and evals.
    """

    def __init__(self, progress: Path, stub: Provider, **more: Route) -> None:
        self.prefix = ""
        self.layout = Layout(root=progress, model="m", eval_set="s")
        openai = Route(
            name="openai",
            address=f"{stub.url}/v1",
            headers={"Authorization": f"Bearer {KEY}"},
            key_from="OPENAI_API_KEY",
            address_from="OPENAI_BASE_URL",
            base="/v1",
        )
        self.config = Config(
            answers=str(self.layout.answers),
            lock=str(self.layout.lock),
            routes={"openai": openai, **more},
        )
        self.stub = stub
        self.told: dict[str, str] = {}
        self.warned: list[str] = []
        self.gateways: list[Gateway] = []

    def start(self) -> Gateway:
        """Start the gateway, or take it over; give it once it answers."""
        gateway = Gateway(self.layout, self.config, self._tell, self.warned.append)
        self.gateways.append(gateway)
        gateway.start()
        until(gateway._standing)
        return gateway

    @property
    def gateway(self) -> Gateway:
        """The one that was started last."""
        return self.gateways[-1]

    def standing(self) -> Standing:
        """How it is."""
        found = self.gateway._standing()
        assert found
        return found

    def abandon(self) -> None:
        """Do as a runner that is killed: the gateway's process is left alone."""
        self.gateway._over.set()
        self.gateway._watch.join()
        self.told.clear()  # the next runner is told again

    def end(self) -> None:
        """End it, and see that it ends once it has done all."""
        self.gateway.end()
        assert self._ends(30)

    def clear(self) -> None:
        """End it, whatever it waits for."""
        for each in self.gateways:
            each.end()
        if not self._ends(3):
            end_process(self.layout.gateway)
            assert self._ends(5)

    def _ends(self, seconds: float) -> bool:
        try:
            for each in self.gateways:
                if each._process is not None:
                    each._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self.gateways.clear()
        return True

    def enter(self, attempt: str = "a", eval_key: str = "e") -> Caller:
        """Let an attempt ask."""
        name = self.prefix + attempt
        return Caller(self.gateway.enter(job(self.prefix + eval_key), name), name)

    def account(self, attempt: str) -> Account:
        """What an attempt has done."""
        return self.gateway.account(self.prefix + attempt)

    def leave(self, attempt: str) -> Account:
        """An attempt has ended."""
        return self.gateway.leave(self.prefix + attempt)

    def file(self, eval_key: str = "e") -> Path:
        """The answers file of an eval."""
        return self.layout.answers_of(job(self.prefix + eval_key).command)

    def lines(self, kind: str, eval_key: str = "e") -> list[dict[str, Any]]:
        """The lines of a kind in an eval's answers file."""
        if not self.file(eval_key).exists():
            return []
        content = self.file(eval_key).read_bytes()
        whole = [json.loads(line) for line in content.splitlines() if line]
        return [line for line in whole if line["kind"] == kind]

    def billed(self) -> list[int]:
        """Numbers of the bills."""
        return [each.bill for each in self.stub.bills()]

    def _tell(self, kind: str, text: str) -> None:
        assert kind not in self.told
        self.told[kind] = text


def job(eval_key: str) -> Job:
    """One whose answers are those of this eval."""
    command = Command(("oaieval", "m", eval_key))
    settings = ContainerSettings(
        image="i", memory=0, cpus=None, pids_limit=0, gpus=None, timeout=0, network="none"
    )
    return Job(command=command, argv=command, settings=settings)


@contextmanager
def desk(progress: Path, stub: Provider, **more: Route) -> Iterator[Desk]:
    """A desk whose gateway is started, and gone at the end of the `with` block."""
    found = Desk(progress, stub, **more)
    try:
        found.start()
        yield found
    finally:
        found.clear()
