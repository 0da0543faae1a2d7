import threading
import time
from collections.abc import Callable
from typing import TypeVar

from docker.errors import APIError
from requests.exceptions import RequestException

from runner.errors import EnvironmentFault
from runner.execute.engine import Engine, explain

# Seconds between two looks whether the engine is back.
PAUSE = 1

# How often the same is asked of an engine that answers, but not that.
TRIES = 4

T = TypeVar("T")


class Absence:
    """Waits for an engine that went away while evals run; one worker asks, the others wait.

    Args:
        engine: that may go away.
        limit: seconds in which it has to come back.
        tell: told in a line when it goes and when it comes back.

    Attributes:
        noticed: how often anybody found it away; what ran meanwhile may have been ended by it.
    """

    def __init__(self, engine: Engine, *, limit: float, tell: Callable[[str], None]) -> None:
        self._engine = engine
        self._limit = limit
        self._tell = tell
        self._one = threading.Lock()
        self._given_up = False
        self.noticed = 0

    def through(self, ask: Callable[[], T]) -> T:
        """What `ask` gives; where the engine goes away meanwhile, asked again when it is back.

        Raises:
            EnvironmentFault: it did not come back.
            RequestException: it answers others, but not this.
        """
        for _ in range(TRIES - 1):
            try:
                return ask()
            except RequestException as error:
                self.wait(error)
        return ask()

    def wait(self, error: RequestException) -> bool:
        """Wait until the engine answers; `error` made somebody doubt it.

        Returns:
            Whether it was away.

        Raises:
            EnvironmentFault: it has not answered within the limit.
            APIError: `error` itself, where it is an answer.
        """
        if isinstance(error, APIError):
            if not error.is_server_error():
                raise error
            # One that is being shut down says so to whoever still asks.
            time.sleep(PAUSE)
        else:
            self.noticed += 1
        with self._one:
            if self._given_up:
                raise self._gone(error) from error
            if self._engine.answers():
                # Others may have waited for it before, or it was very quick.
                return not isinstance(error, APIError)
            self._tell(f"the Docker engine went away; waiting up to {self._limit:g} s for it")
            began = time.monotonic()
            while not self._engine.answers():
                if time.monotonic() - began > self._limit:
                    self._given_up = True
                    raise self._gone(error) from error
                time.sleep(PAUSE)
            self._tell(f"the Docker engine is back after {time.monotonic() - began:.0f} s")
            return True

    def _gone(self, error: RequestException) -> EnvironmentFault:
        return EnvironmentFault(
            f"the engine went away for more than {self._limit:g} s (--engine-wait; "
            f"{explain(error)}); what ran there is taken in by the next run"
        )
