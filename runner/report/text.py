import re

# All that a terminal may take for a command: control characters of both ranges, and the marks
# that change the direction of text.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


# Colours are simply taken out: most logs have them.
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


def harmless(text: str) -> str:
    """Text from a container with nothing in it that a terminal would obey."""
    text = _COLOUR.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """Harmless text without line breaks.

    A line of an eval's own making could be a command, to GitHub Actions for one.
    """
    return " ".join(harmless(text).split("\n"))


def duration(seconds: float) -> str:
    """Seconds for people: `4.2 s`, `3 min 05 s`, `2 h 07 min`."""
    if round(seconds, 1) < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def size(count: int) -> str:
    """A number of bytes for people: `980 KiB`, `1.5 GiB`."""
    amount = count / 2**10
    for unit in ("KiB", "MiB", "GiB"):
        if amount < 1024:  # noqa: PLR2004 - the next unit's
            return f"{amount:.3g} {unit}"
        amount /= 2**10
    return f"{amount:.3g} TiB"


def evals(count: int) -> str:
    """A number of evals in words."""
    return f"{count} eval" if count == 1 else f"{count} evals"


def part_of_set(planned: int, in_eval_set: int | None) -> str:
    """What a plan leaves out of its eval set; empty where that is nothing, or not known."""
    if in_eval_set is None or planned >= in_eval_set:
        return ""
    return f"the last plan has {planned} of the eval set's {evals(in_eval_set)}"
