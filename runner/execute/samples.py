import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from docker.errors import DockerException
from requests.exceptions import RequestException

from runner.execute.engine import Engine

# tqdm's bar, as oaieval prints it: ` 30%|###       | 3/10 [00:01<00:02,  2.9it/s]`.
_BAR = re.compile(rb"(\d{1,9})/(\d{1,9}) \[")


def follow_samples(engine: Engine, container: str, tell: Callable[[int, int], None]) -> None:
    """Watch a container's output for oaieval's progress bar, in a thread that ends with it.

    The engine keeps output by lines, and a bar has none until it is full: this attaches instead.
    """

    def watch() -> None:
        end = b""
        with (
            contextlib.suppress(DockerException, RequestException, OSError),
            _attached(engine, container) as parts,
        ):
            for part in parts:
                found = _BAR.findall(end + part)
                if found:
                    tell(int(found[-1][0]), int(found[-1][1]))
                end = part[-64:]

    threading.Thread(target=watch, name=f"samples-{container[:12]}", daemon=True).start()


def console_of(engine: Engine, container: str, *, follow: bool) -> Iterator[bytes]:
    """What a container printed so far, and with `follow` all that it prints until it ends.

    Read from the engine's log, which has whole lines only: attaching may lose what is printed
    between the engine's look at the log and its attaching.
    """
    yield from engine.api.logs(container, stream=True, stdout=True, stderr=True, follow=follow)


@contextlib.contextmanager
def _attached(engine: Engine, container: str) -> Iterator[Iterator[bytes]]:
    """Output from now on, as it comes."""
    parts: Any = engine.api.attach(container, stream=True)
    try:
        yield parts
    finally:
        # docker-py leaves the connection to the garbage collector: one for each eval watched.
        parts._response.close()  # noqa: SLF001 - its own `close` frees half of it
