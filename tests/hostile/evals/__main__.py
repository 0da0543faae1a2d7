"""The program of the hostile image: does what the name of its eval says, and reports what worked.

`flood.3` is the attack `flood` with the argument `3`.
"""

import sys

from . import ask, exhaust, gain, leave, look, say, tell

ATTACKS = {
    name: attack
    for module in (ask, exhaust, gain, leave, look, say, tell)
    for name, attack in vars(module).items()
    if callable(attack) and getattr(attack, "__module__", "") == module.__name__
}

if __name__ == "__main__":
    name, *arguments = sys.argv[2].split(".")
    ATTACKS[name](*arguments)
    if tell.FACTS:
        tell.report(tell.FACTS)
