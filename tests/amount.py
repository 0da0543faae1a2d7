"""How much is done: little with `make test`, much with `make soak`."""

import os

# Chosen by a variable, because pytest knows options of a folder only if it is named.
SOAK = bool(os.environ.get("EVALSET_TEST_SOAK"))


def amount(short: int, long: int) -> int:
    """The long form's number with `make soak`, else the short form's."""
    return long if SOAK else short
