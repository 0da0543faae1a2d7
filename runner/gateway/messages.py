"""What a run and its gateway tell each other."""

import msgspec

from runner.gateway.allowance import Limits
from runner.gateway.providers import Route
from runner.model import Spending
from runner.records.sums import plus

# Raised whenever a run and a gateway of different versions would not understand each other.
PROTOCOL = 1


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway is told when it starts, keys included.

    Attributes:
        lock: path of the run's lock; while it is held, there is a run.
        routes: providers, by name.
        answers: folder of the answers files of all its evals.
        limits: those that all evals share.
        environment: further variables, such as those of proxies.
        offline: whether it only replays, and sends nothing.
        patience: seconds without a run and without a request after which it ends by itself.
    """

    protocol: int = PROTOCOL
    lock: str
    routes: dict[str, Route]
    answers: str
    limits: Limits = Limits()
    environment: dict[str, str] = {}
    offline: bool = False
    patience: float = 600.0


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that may send requests.

    Attributes:
        folder: where its socket is to be.
        answers: path of its eval's answers file.
    """

    attempt: str
    folder: str
    answers: str


class Account(msgspec.Struct, kw_only=True):
    """What an attempt has done at the gateway.

    Attributes:
        spending: what it asked of providers.
        refused: requests that were not allowed, at most 20.
        stopped: why it could not continue, such as a budget that is used up; empty if it could.
        kind: the kind of that reason: `budget`, `price`, `key` or `quota`.
        waited: seconds in which all of its requests waited for their turn.
    """

    spending: Spending = Spending()
    refused: list[str] = []
    stopped: str = ""
    kind: str = ""
    waited: float = 0.0

    def __add__(self, later: "Account") -> "Account":
        """The sum with what it did at the gateway that was started after the first one had gone."""
        one, other = self.spending, later.spending
        return Account(
            spending=Spending(
                requests=one.requests + other.requests,
                replayed=one.replayed + other.replayed,
                tokens=one.tokens + other.tokens,
                saved_tokens=one.saved_tokens + other.saved_tokens,
                usd=plus(one.usd, other.usd),
                saved_usd=plus(one.saved_usd, other.saved_usd),
            ),
            refused=[*self.refused, *later.refused],
            stopped=self.stopped or later.stopped,
            kind=self.kind or later.kind,
            waited=self.waited + later.waited,
        )


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a gateway.

    Attributes:
        pid: its process.
        attempts: what the attempts have done, by id.
        problems: why no request can succeed, by kind: `key`, `quota`, `budget`, `price` and
            `disk`.
        warnings: anything else that a run should know.
    """

    protocol: int = PROTOCOL
    pid: int
    attempts: dict[str, Account]
    problems: dict[str, str] = {}
    warnings: list[str] = []
