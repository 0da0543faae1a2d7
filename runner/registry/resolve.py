import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import msgspec

from runner.errors import UsageError, did_you_mean
from runner.registry.entries import EvalEntry, EvalSetEntry, Registry


def names_matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a pattern matches, in their order.

    `*` stands for any text, even none. Everything else is literal. (Upstream makes a regular
    expression of it, in which `+` or `[` would be special; no name in its registry has these.)
    """
    expression = _expression(pattern)
    return [name for name in names if expression.fullmatch(name)]


@cache  # a rule's pattern is matched with one eval after another
def _expression(pattern: str) -> re.Pattern[str]:
    first, *others = map(re.escape, pattern.split("*"))
    # each part is matched where it first occurs, without backtracking, so that no pattern is slow
    middle = "".join(f"(?>.*?{part})" for part in others[:-1])
    last = "".join(f".*{part}" for part in others[-1:])
    return re.compile(first + middle + last, re.DOTALL)


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """The evals of an eval set.

    Attributes:
        evals: resolved keys in registry order, each once.
        names: the names that led to each key, including the key itself, by key.
        defines_model: whether the registry has the model as a completion function or a solver.
    """

    evals: tuple[str, ...]
    names: dict[str, tuple[str, ...]]
    defines_model: bool = False
    warnings: tuple[str, ...] = ()


def resolve_eval_set(
    registry: Registry, name: str, *, model: str = "", passed_through: Sequence[str] = ()
) -> Resolution:
    """Turn an eval set's name into the keys of its evals, in upstream's order.

    Args:
        model, passed_through: as given on the command line, to explain a misplaced name.

    Raises:
        UsageError: there is no such set, it has a fault, or an eval of it cannot be run.
    """
    if name not in registry.eval_sets:
        hint = did_you_mean(name, registry.eval_sets)
        if _is_option_misplaced(registry, model, passed_through):
            hint = (
                f"options that are passed through come last, after MODEL and EVAL_SET "
                f"(MODEL was taken to be `{model}`)"
            )
        elif model in registry.eval_sets:
            hint = f"the model comes first: `{name} {model}`, not `{model} {name}`?"
        if name in registry.evals:
            raise UsageError(
                f"`{name}` is an eval, not an eval set",
                "list it in an eval set of your own, as docs/registry.md shows, or take a set that "
                "has it, with --select",
            )
        raise UsageError(f"no eval set `{name}`", hint or "`evalset list` shows all")
    key = _follow("eval set", name, registry.eval_sets)
    entry = registry.eval_sets[key]
    if entry.problem:
        raise UsageError(f"eval set `{key}` in {entry.source} {entry.problem}")
    listed, warnings = _listed(registry, key, entry)
    names: dict[str, tuple[str, ...]] = {}
    # registry order decides, not the order of the patterns: upstream's rule
    for candidate in registry.evals:
        if candidate in listed:
            resolved = resolve_eval(registry, candidate)
            names[resolved] = (*names.get(resolved, (resolved,)), candidate)
    return Resolution(
        evals=tuple(names),
        names=names,
        defines_model=model in registry.completion_fns or model in registry.solvers,
        warnings=warnings,
    )


def resolve_eval(registry: Registry, name: str) -> str:
    """Follow an eval's aliases to the eval itself.

    Raises:
        UsageError: there is no such eval, its aliases lead in a circle, or it cannot be run.
    """
    if name not in registry.evals:
        hint = did_you_mean(name, registry.evals) or "`evalset list evals` shows all"
        raise UsageError(f"no eval `{name}`", hint)
    key = _follow("eval", name, registry.evals)
    entry = registry.evals[key]
    if entry.problem:
        raise UsageError(f"eval `{key}` in {entry.source} {entry.problem}")
    return key


def _follow(kind: str, name: str, entries: Mapping[str, EvalEntry | EvalSetEntry]) -> str:
    entry = entries[name]
    path = [name]
    while entry.alias is not None:
        if entry.alias in path:
            circle = " -> ".join([*path, entry.alias])
            raise UsageError(
                f"{kind} `{name}` is an alias that leads in a circle: {circle}",
                f"fix {entry.source}",
            )
        if entry.alias not in entries:
            others = [other for other in entries if entries[other].alias is None]
            raise UsageError(
                f"{kind} `{path[-1]}` in {entry.source} is an alias of `{entry.alias}`, "
                "which is in no registry",
                did_you_mean(entry.alias, others),
            )
        path.append(entry.alias)
        entry = entries[entry.alias]
    return path[-1]


def _listed(registry: Registry, key: str, entry: EvalSetEntry) -> tuple[set[str], tuple[str, ...]]:
    """The names that a set lists, and warnings; a pattern that matches nothing is an error.

    Upstream ignores such a pattern, and its own `stock-options` has one, which must run all the
    same. In a user's set it is a typing error, because of which an eval would not run.
    """
    listed: set[str] = set()
    warnings: list[str] = []
    for pattern in entry.patterns:
        # a name may contain a `*`
        found = [pattern] if pattern in registry.evals else names_matching(pattern, registry.evals)
        listed.update(found)
        if not found:
            hint = did_you_mean(pattern, registry.evals)
            warnings.append(
                f"eval set `{key}` in {entry.source} lists `{pattern}`, which matches no eval"
                f"{hint and f'; {hint}'}"
            )
    if warnings and not (entry.builtin and listed):
        raise UsageError(warnings[0])
    return listed, tuple(warnings)


def _is_option_misplaced(registry: Registry, model: str, passed_through: Sequence[str]) -> bool:
    """Whether an option before MODEL has shifted the names: `--max_samples 5 gpt-4 test`."""
    options = any(each.startswith("-") for each in passed_through)
    shifted = any(each in registry.eval_sets for each in passed_through)
    return options and (shifted or model.replace(".", "", 1).isdigit())
