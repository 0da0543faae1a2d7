from collections.abc import Callable, Mapping, Sequence

import msgspec

# Of a setting: names, numbers; None is none.
Value = str | int | float | None

# What a container gets that matters for results, as fields of `ContainerSettings`.
SETTINGS = ("image", "network", "gpus", "memory", "pids_limit", "timeout", "tmp_limit")

# Evals, or groups of them, that one line names; the others are counted.
_NAMED = 3

_SHORT = 12


class Pins(msgspec.Struct, frozen=True, kw_only=True):
    """What the results of a run depend on besides its commands; None where it is not known.

    Attributes:
        image: name of the default image.
        image_id: the engine's id of it.
        image_digest: the image registry's digest.
        image_fingerprint: of what it was built from.
        own: the run's own settings, by name: what a job gets that no rule speaks of.
        settings: those of single jobs that are not the run's own, by the key of the argv.
        registry: digest of what each job takes from outside the image, by the key of its argv.
    """

    image: str
    image_id: str
    image_digest: str | None
    image_fingerprint: str | None
    own: Mapping[str, Value]
    settings: Mapping[str, Mapping[str, Value]] | None
    registry: Mapping[str, str] | None

    def of(self, key: str) -> dict[str, Value] | None:
        """What the container of a job got; None where that is not known."""
        if self.settings is None or key not in (self.registry or {}):
            return None
        return {**self.own, **self.settings.get(key, {})}


def differences(
    before: Pins, now: Pins, *, finished: Mapping[str, str], alike: bool = True
) -> tuple[str, ...]:
    """Say in what two runs differ that matters for results, each with the old and the new.

    Args:
        before: of the run that finished evals.
        now: of the run that is to go on.
        finished: keys of the finished jobs that are compared, with their evals.
        alike: whether both runs have the same arguments; else the image is compared by its name
            alone, for the other run did not finish what this one takes as finished.
    """
    both = {
        eval_key: (old, new)
        for key, eval_key in finished.items()
        if (old := before.of(key)) and (new := now.of(key))
    }
    return (
        *_grouped("image", _images(before, now, finished, alike=alike), len(finished)),
        *(
            said
            for name, (option, show, counts) in _COMPARED.items()
            for said in _grouped(
                option,
                {
                    eval_key: (show(old[name]), show(new[name]))
                    for eval_key, (old, new) in both.items()
                    if counts(old.get(name), new.get(name))
                },
                len(finished),
            )
        ),
        *_registry(before.registry or {}, now.registry or {}, finished),
    )


def _images(
    before: Pins, now: Pins, finished: Mapping[str, str], *, alike: bool
) -> dict[str, tuple[str, str]]:
    """Both images of each eval that has got another."""
    others = {}
    for key, eval_key in finished.items():
        got = before.of(key)
        if got is None and not alike:
            continue
        old = (got or before.own)["image"]
        new = (now.of(key) or now.own)["image"]
        if alike and (old, new) == (before.image, now.image):
            if not _is_same_image(before, now):
                others[eval_key] = (_shown(before), _shown(now))
        elif old != new:
            others[eval_key] = (str(old), str(new))
    return others


def _is_same_image(before: Pins, now: Pins) -> bool:
    return bool(
        before.image_id == now.image_id
        or (before.image_fingerprint and before.image_fingerprint == now.image_fingerprint)
        or (before.image_digest and _content(before) == _content(now))
    )


def _grouped(what: str, changed: Mapping[str, tuple[str, str]], total: int) -> list[str]:
    """Say what has changed once for all evals that it is the same for.

    Args:
        what: has changed.
        changed: the old and the new, by the eval.
        total: how many evals were compared: where all have changed alike, none is named.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for eval_key, both in changed.items():
        groups.setdefault(both, []).append(eval_key)
    said = []
    for (old, new), evals in list(groups.items())[:_NAMED]:
        of = "" if len(evals) == total else f" of {_names(evals)}"
        said.append(f"{what}{of}: {old} before, {new} now")
    if left := sum(len(evals) for evals in list(groups.values())[_NAMED:]):
        said.append(f"that of {left} more evals")
    return said


def _names(evals: Sequence[str]) -> str:
    named = ", ".join(evals[:_NAMED])
    return f"{named} and {len(evals) - _NAMED} more" if len(evals) > _NAMED else named


def _content(pins: Pins) -> str:
    """The digest without the repository's name, for the same image may be in several."""
    return (pins.image_digest or "").rpartition("@")[2]


def _shown(pins: Pins) -> str:
    if pins.image_digest:
        kind, value = "digest", _content(pins)
    elif pins.image_fingerprint:
        kind, value = "fingerprint", pins.image_fingerprint
    else:
        kind, value = "id", pins.image_id
    return f"{pins.image} ({kind} {value.removeprefix('sha256:')[:_SHORT]})"


def _registry(
    before: Mapping[str, str], now: Mapping[str, str], finished: Mapping[str, str]
) -> tuple[str, ...]:
    changed = [
        (eval_key, before[key], now[key])
        for key, eval_key in finished.items()
        if key in before and key in now and before[key] != now[key]
    ]
    said = [
        f"registry content of {eval_key}: {old} before, {new} now"
        for eval_key, old, new in changed[:_NAMED]
    ]
    if len(changed) > _NAMED:
        said.append(f"that of {len(changed) - _NAMED} more evals")
    return tuple(said)


def _differs(before: Value, now: Value) -> bool:
    return (before or None) != (now or None)


def _is_lower(before: Value, now: Value) -> bool:
    """Who needs more to go on may have it."""
    return isinstance(before, int | float) and isinstance(now, int | float) and 0 < now < before


def _text(value: Value) -> str:
    return str(value or "none")


def _memory(value: Value) -> str:
    number = float(value or 0)
    for unit, size in (("g", 2**30), ("m", 2**20)):
        if number % size == 0:
            return f"{number / size:g}{unit}"
    return f"{number:.0f}"


def _number(value: Value) -> str:
    return f"{float(value or 0):g}"


def _seconds(value: Value) -> str:
    return f"{_number(value)}s"


_COMPARED: dict[str, tuple[str, Callable[[Value], str], Callable[[Value, Value], bool]]] = {
    "network": ("--network", _text, _differs),
    "gpus": ("--gpus", _text, _differs),
    "memory": ("--memory", _memory, _is_lower),
    "pids_limit": ("--pids-limit", _number, _is_lower),
    "timeout": ("--timeout", _seconds, _is_lower),
    "tmp_limit": ("--tmp-limit", _memory, _is_lower),
}
