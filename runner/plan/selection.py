from collections.abc import Mapping, Sequence

from runner.errors import UsageError
from runner.plan.closest import did_you_mean
from runner.plan.pattern import matching


def choose(
    evals: Sequence[str],
    names: Mapping[str, Sequence[str]],
    select: Sequence[str],
    exclude: Sequence[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Apply a selection; an exclusion that matches nothing harms nobody and is a warning.

    Args:
        evals: resolved keys, in order.
        names: for each key the names, aliases too, that a pattern may use for it.
        select: patterns of the evals to run; none selects all.
        exclude: patterns of the evals to leave out.

    Returns:
        The keys that are left, each once and in order, and the warnings.

    Raises:
        UsageError: a selection matches nothing, or nothing is left.
    """
    evals = tuple(dict.fromkeys(evals))
    if not select and not exclude:
        return evals, ()
    keys = _by_name(evals, names)

    def covered(pattern: str) -> set[str]:
        return {key for name in matching(pattern, keys) for key in keys[name]}

    selected = set() if select else set(evals)
    for pattern in select:
        found = covered(pattern)
        if not found:
            hint = did_you_mean(pattern, keys) or "; `evalset list evals` shows all"
            raise UsageError(f"--select `{pattern}` matches no eval of the set{hint}")
        selected |= found
    warnings = []
    for pattern in exclude:
        found = covered(pattern)
        if not found:
            hint = did_you_mean(pattern, keys)
            warnings.append(f"--exclude `{pattern}` matches no eval of the set{hint}")
        selected -= found
    if not selected:
        raise UsageError(
            f"--select and --exclude leave none of the set's {len(evals)} evals; change one of them"
        )
    return tuple(key for key in evals if key in selected), tuple(warnings)


def _by_name(evals: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for key in evals:
        for name in dict.fromkeys([key, *names.get(key, ())]):
            keys.setdefault(name, []).append(key)
    return keys
