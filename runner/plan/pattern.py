from collections.abc import Iterable


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Give the names that a pattern covers, in their order.

    `*` stands for any text, none included. All else is literal. (Upstream makes a regular
    expression of it, so that `+` or `[` would be special there; no name of its registry has any.)
    """
    if "*" not in pattern:
        return [name for name in names if name == pattern]
    first, *middle, last = pattern.split("*")
    return [
        name
        for name in names
        if name.startswith(first) and name.endswith(last) and _between(name, first, middle, last)
    ]


def _between(name: str, first: str, middle: list[str], last: str) -> bool:
    """Tell whether the middle parts follow each other between the first and the last."""
    position, end = len(first), len(name) - len(last)
    if position > end:
        return False
    for part in middle:
        found = name.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True
