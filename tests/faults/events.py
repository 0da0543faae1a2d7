"""What an engine says of a progress directory's containers: evidence that no runner wrote."""

import contextlib
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import docker
import msgspec
from docker.errors import DockerException
from requests.exceptions import RequestException

from runner.engine import docker_py
from runner.engine.labels import Label
from tests.conftest import Place, until

ACTIONS = ("create", "start", "die", "destroy")

# The last container of a recording, by which is known that all before has been heard.
END = "evalset.test.end"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a container.

    Attributes:
        action: one of `ACTIONS`.
        time: nanoseconds, by the engine's clock.
        container: the engine's id.
        attempt: id of the attempt that it was made for.
        eval: that it runs.
    """

    action: str
    time: int
    container: str
    attempt: str
    eval: str


class Recording:
    """Listens to an engine from its construction on, in a thread, also across its restarts.

    Args:
        place: whose containers are listened for.
        address: of the engine; that of the machine if none is given.
        everyone: whether all attempts at the engine are listened for, wherever they belong.
    """

    def __init__(self, place: Place, address: str = "", *, everyone: bool = False) -> None:
        self._place = place
        self._id = uuid.uuid4().hex
        self._address = address or docker_py.address()
        self._label = Label.ATTEMPT if everyone else f"{Label.PROGRESS}={place.progress}"
        self._heard: dict[tuple[str, str, int], Event] = {}
        self._since = int(time.time())
        self._news = threading.Condition()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._ready.wait(20)

    @property
    def events(self) -> list[Event]:
        """What was heard so far, in the order in which it happened."""
        with self._news:
            return sorted(self._heard.values(), key=lambda event: event.time)

    @property
    def count(self) -> int:
        """How much was heard so far."""
        return len(self._heard)

    def wait_for(self, count: int, seconds: float) -> bool:
        """Wait until so much was heard in all; tell whether it was."""
        with self._news:
            return self._news.wait_for(lambda: len(self._heard) >= count, seconds)

    def finish(self) -> list[Event]:
        """Hear out what has happened until now; the recording ends."""
        labels = {Label.PROGRESS: str(self._place.progress), Label.ATTEMPT: END, END: self._id}
        with self._client() as api:
            last = api.create_container(self._place.image, command=["true"], labels=labels)["Id"]
            api.remove_container(last, force=True, v=True)
        until(lambda: not self._thread.is_alive())
        return self.events

    def _client(self) -> contextlib.closing[docker.APIClient]:
        # A new one each time, because a restart of the engine cuts it off.
        return contextlib.closing(docker.APIClient(base_url=self._address, timeout=60))

    def _listen(self) -> None:
        while True:
            # An engine that is away is asked again; what it did meanwhile it tells then.
            with (
                contextlib.suppress(DockerException, RequestException, OSError),
                self._there(),
                self._client() as api,
                self._stream(api) as heard,
            ):
                for about in heard:
                    end = about["Actor"]["Attributes"].get(END)
                    if end == self._id:
                        return
                    if not end:  # else that of another recording
                        self._hear(about)
            time.sleep(0.05)

    def _there(self) -> contextlib.AbstractContextManager[object]:
        """Connect; docker's library leaves a socket open each time that nobody is there."""
        if not self._address.startswith("unix://"):
            return contextlib.nullcontext()
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(self._address.removeprefix("unix://"))
            return stack.pop_all()

    @contextlib.contextmanager
    def _stream(self, api: docker.APIClient) -> Iterator[Any]:
        stream = api.events(
            since=self._since,
            filters={"type": "container", "label": self._label, "event": list(ACTIONS)},
            decode=True,
        )
        self._ready.set()
        try:
            yield stream
        finally:
            stream._response.close()  # type: ignore[attr-defined] # the library's own `close` frees half of it

    def _hear(self, about: dict[str, Any]) -> None:
        labels = about["Actor"]["Attributes"]
        event = Event(
            action=about["Action"],
            time=about["timeNano"],
            container=about["Actor"]["ID"],
            attempt=labels[Label.ATTEMPT],
            eval=msgspec.json.decode(labels[Label.COMMAND], type=list[str])[2],
        )
        with self._news:
            self._heard[event.action, event.container, event.time] = event
            self._news.notify_all()


def by_eval(events: list[Event], action: str) -> dict[str, list[Event]]:
    """The events of one kind, for each eval in the order of time."""
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event.action == action:
            found[event.eval].append(event)
    return found
