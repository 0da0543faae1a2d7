"""What a world in virtual time is made of."""

import msgspec

from runner.model import Result


class Violation(AssertionError):
    """Something happened that must never happen."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How large a world is, and how rough.

    Attributes:
        link: seconds between two failures of a host's link, on average.
        power: seconds between two power losses of a host, on average.
        restart: seconds between two deaths of the runner, on average.
    """

    hosts: int
    evals: int
    link: float = 600.0
    power: float = 6000.0
    restart: float = 300.0


class Agent(msgspec.Struct, eq=False):
    """What is really on a host."""

    name: str
    slots: int
    running: dict[str, str] = {}
    held: dict[str, tuple[str, Result]] = {}
    there: bool = True
    link: int = 0  # whose messages it takes
    deaf: bool = False  # whether what is still on the way to it is lost
