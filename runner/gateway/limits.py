"""The limits that the options of a run set, as one value that can be sent to another process."""

import msgspec

from runner.errors import UsageError
from runner.gateway.allowance import Allowance
from runner.gateway.prices import Prices, check_budget, read_prices
from runner.gateway.rates import limits_of
from runner.options import RunOptions
from runner.units import Budget


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a run may spend on its models, and how fast.

    Attributes:
        rpm: the most requests in a minute, by model; "" for all models together.
        tpm: the most tokens in a minute, likewise.
    """

    budget: Budget | None = None
    prices: Prices | None = None
    rpm: dict[str, int] = {}
    tpm: dict[str, int] = {}

    def allowance(self, *, spent: float = 0) -> Allowance:
        """Start to count, given what is already spent in the budget's unit."""
        return Allowance(
            budget=self.budget, prices=self.prices, rpm=self.rpm, tpm=self.tpm, spent=spent
        )


def limits_of_run(options: RunOptions, *, model: str | None = None) -> Limits:
    """The limits of a run; the file of prices is read.

    Args:
        options: of the run.
        model: as in `check_budget`.

    Raises:
        UsageError: two of them contradict each other, or a price is missing.
        EnvironmentFault: the file of prices cannot be read.
    """
    given = {
        "--budget": options.budget,
        "--rpm": options.rpm,
        "--tpm": options.tpm,
        "--upstream": options.upstreams,
    }
    for option, value in given.items():
        if value and not options.gateway:
            raise UsageError(
                f"{option} needs the gateway", f"leave out --no-gateway, or {option} itself"
            )
    limits = Limits(
        budget=options.budget,
        prices=read_prices(options.prices),
        rpm=limits_of(options.rpm, "--rpm"),
        tpm=limits_of(options.tpm, "--tpm"),
    )
    check_budget(limits.budget, limits.prices, model=model)
    return limits
