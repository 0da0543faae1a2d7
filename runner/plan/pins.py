from collections.abc import Callable, Mapping

import msgspec

# Evals that one line names; the others are counted.
_NAMED = 3
_SHORT = 12


class Pins(msgspec.Struct, frozen=True, kw_only=True):
    """What the results of a run depend on besides its commands; None where it is not known.

    Attributes:
        image: name of the default image.
        image_id: the engine's id of it.
        image_digest: the image registry's digest.
        image_fingerprint: of what it was built from.
        network: of the default settings.
        gpus: of the default settings; an empty text is none.
        limits: the default ones: bytes, processes, seconds.
        registry: digest of what each job takes from outside the image, by the key of its argv.
    """

    image: str
    image_id: str
    image_digest: str | None
    image_fingerprint: str | None
    network: str | None
    gpus: str | None
    limits: Mapping[str, float | None]
    registry: Mapping[str, str] | None


def differences(
    before: Pins, now: Pins, *, finished: Mapping[str, str], alike: bool = True
) -> tuple[str, ...]:
    """Say in what two runs differ that matters for results, each with the old and the new.

    Args:
        before: of the run that finished evals.
        now: of the run that is to go on.
        finished: keys of the finished jobs that are compared, with their evals.
        alike: whether both runs have the same arguments; else the registry alone is compared.
    """
    registry = _registry(before.registry or {}, now.registry or {}, finished)
    if not alike:
        return registry
    return (
        *_image(before, now),
        *_setting("--network", before.network, now.network),
        *_setting("--gpus", before.gpus, now.gpus),
        *(
            f"{option}: {show(old)} before, {show(new)} now"
            for name, (option, show) in _LIMITS.items()
            # who needs more to go on may have it
            if (old := before.limits.get(name)) and (new := now.limits.get(name)) and new < old
        ),
        *registry,
    )


def _image(before: Pins, now: Pins) -> tuple[str, ...]:
    same = (
        before.image_id == now.image_id
        or (before.image_fingerprint and before.image_fingerprint == now.image_fingerprint)
        or (before.image_digest and _content(before) == _content(now))
    )
    return () if same else (f"image: {_shown(before)} before, {_shown(now)} now",)


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


def _setting(option: str, before: str | None, now: str | None) -> tuple[str, ...]:
    if before is None or before == now:
        return ()
    return (f"{option}: {before or 'none'} before, {now or 'none'} now",)


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


def _memory(value: float) -> str:
    for unit, size in (("g", 2**30), ("m", 2**20)):
        if value % size == 0:
            return f"{value / size:g}{unit}"
    return f"{value:.0f}"


def _number(value: float) -> str:
    return f"{value:g}"


def _seconds(value: float) -> str:
    return f"{value:g}s"


_LIMITS: dict[str, tuple[str, Callable[[float], str]]] = {
    "memory": ("--memory", _memory),
    "pids_limit": ("--pids-limit", _number),
    "timeout": ("--timeout", _seconds),
}
