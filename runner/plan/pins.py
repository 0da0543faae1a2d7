from collections.abc import Collection, Mapping, Sequence
from typing import Annotated

import msgspec

from runner import __version__
from runner.model import Setting
from runner.options import options_of_run

# Of the format of run.json.
VERSION = 1

# The largest integer that every reader of JSON can hold.
MAX_GENERATION = 2**53

# Evals, or groups of them, that one line names; further ones are counted.
_NAMED = 3

# Digits of a digest that a line shows.
_SHORT = 12

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_GENERATION)]


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is pinned to; written to run.json when it starts, over the one before.

    Attributes:
        runner: version of evalset.
        run: id of the run.
        image: name of the default image; `image_id` is the engine's id of it.
        image_digest: the image registry's digest; None for an image that was built here.
        image_fingerprint: of what it was built from; None for an image that is not ours.
        commands: the whole plan, including those of other shards, in order.
        in_eval_set: how many evals the set has, including those that were not selected; None in
            a file of an earlier version.
        shard: `I/N`; None for all.
        limits: the default ones, as numbers: bytes, CPUs, processes, seconds.
        network: the default one; None in a file of an earlier version.
        gpus: the default ones; None is none.
        seeds: what was in effect: `PYTHONHASHSEED` where image or user set it, `EVALS_SEED` where
            the user did, and `random` of the global random numbers, which our image fixes. None in
            a file of an earlier version.
        registry: digest of what each job takes from registry folders, by the key of its argv;
            None in a file of an earlier version.
        settings: those of a job that matter for results and differ from the run's own, by the key
            of its argv; None in a file of an earlier version.
        code: digest of the folders of code that each job gets, by the key of its argv.
        packages: digest of the lock of what requirements add to each job's image, likewise.
        locks: texts of these locks, by what they fulfil.
        data: hash of the fetched data that a job is given, by the key of its argv; a job that was
            given none is left out. None in a file of an earlier version.
        generation: greater than that of each file that the run knew, because clocks of hosts
            differ.
        unable: why evals were skipped, because they could not run, by key; None for none.
    """

    version: int = VERSION
    runner: str = __version__
    run: str
    model: str
    eval_set: str
    image: str
    image_id: str
    image_digest: str | None = None
    image_fingerprint: str | None = None
    commands: tuple[tuple[str, ...], ...]
    in_eval_set: _Count | None = None
    shard: str | None = None
    limits: dict[str, int | float | None]
    network: str | None = None
    gpus: str | None = None
    seeds: dict[str, str] | None = None
    registry: dict[str, str] | None = None
    settings: dict[str, dict[str, Setting]] | None = None
    code: dict[str, str] = {}
    packages: dict[str, str] = {}
    locks: dict[str, str] = {}
    data: dict[str, str] | None = None
    generation: _Count = 0
    unable: dict[str, str] | None = None

    @property
    def age(self) -> tuple[int, str]:
        """Orders files: the newer one has the greater age."""
        return self.generation, self.run

    @property
    def digests(self) -> dict[str, str]:
        """The registry digests that can be compared; earlier versions' cover settings too."""
        return (self.registry or {}) if self.settings is not None else {}

    @property
    def own(self) -> dict[str, Setting]:
        """The settings that a job gets where no rule says otherwise."""
        known = {"image": self.image, "network": self.network, "gpus": self.gpus, **self.limits}
        return {name: known[name] for name in SETTINGS if name in known}

    def settings_of(self, key: str) -> dict[str, Setting] | None:
        """The settings that the container of a job got; None where they are not known."""
        if self.settings is None or key not in self.digests:
            return None
        return self.own | self.settings.get(key, {})

    def with_settings(self, settings: Mapping[str, Mapping[str, Setting]]) -> "RunFile":
        """Replace the settings of jobs that are pinned here, by key, without those of the run."""
        own = self.own
        others = {
            key: {name: given[name] for name in own if name in given and given[name] != own[name]}
            for key, given in settings.items()
            if key in (self.registry or {})
        }
        return msgspec.structs.replace(
            self, settings={key: given for key, given in others.items() if given}
        )


def differences(
    before: RunFile,
    now: RunFile,
    *,
    finished: Mapping[str, str],
    same_arguments: bool = True,
    ignored: Collection[str] = (),
) -> tuple[str, ...]:
    """The differences between two runs that matter for results, with old and new value.

    Args:
        before: the run that finished evals.
        finished: evals that are compared, by the key of their job's argv.
        same_arguments: whether both runs have the same arguments. If not, the image is compared by
            its name alone, because the other run did not finish the evals of this one.
        ignored: settings that may differ.
    """
    total = len(finished)
    said = _described("image", _images(before, now, finished, same_arguments=same_arguments), total)
    pairs = [
        (eval_key, old, new)
        for key, eval_key in finished.items()
        if (old := before.settings_of(key)) and (new := now.settings_of(key))
    ]
    for name in _COMPARED:
        setting = options_of_run()[name]
        show = setting.kind.show if setting.kind else str
        differs = _is_lower if setting.type in {int, float} else _differs
        changed = {
            eval_key: (show(old.get(name) or "none"), show(new.get(name) or "none"))
            for eval_key, old, new in pairs
            if name not in ignored and differs(old.get(name), new.get(name))
        }
        said += _described(f"--{name.replace('_', '-')}", changed, total)
    said += _described("registry content", _changed(before.digests, now.digests, finished))
    for what, option, old_ones, new_ones in (
        ("code", "--code", before.code, now.code),
        ("packages of --requirements", "--requirements", before.packages, now.packages),
    ):
        changed = {
            eval_key: (old_ones.get(key, "none"), new_ones.get(key, "none"))
            for key, eval_key in finished.items()
            if key in before.digests and old_ones.get(key) != new_ones.get(key)
        }
        for line in _described(what, changed, total):
            # Most likely it was forgotten.
            said.append(f"{line} (give {option} again)" if line.endswith("none now") else line)
    data = _changed(before.data or {}, now.data or {}, finished).items()
    shown = {eval_key: (then[:_SHORT], today[:_SHORT]) for eval_key, (then, today) in data}
    return (*said, *_described("data", shown))


def _changed(
    before: Mapping[str, str], now: Mapping[str, str], finished: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Both digests of each eval that has two different ones."""
    return {
        eval_key: (then, today)
        for key, eval_key in finished.items()
        if (then := before.get(key)) and (today := now.get(key)) and then != today
    }


def _images(
    before: RunFile, now: RunFile, finished: Mapping[str, str], *, same_arguments: bool
) -> dict[str, tuple[str, str]]:
    changed = {}
    for key, eval_key in finished.items():
        got = before.settings_of(key)
        if got is None and not same_arguments:
            continue
        old = (got or before.own)["image"]
        new = (now.settings_of(key) or now.own)["image"]
        if same_arguments and (old, new) == (before.image, now.image):
            if not _is_same_image(before, now):
                changed[eval_key] = (_image(before), _image(now))
        elif old != new:
            changed[eval_key] = (str(old), str(new))
    return changed


def _is_same_image(before: RunFile, now: RunFile) -> bool:
    return bool(
        before.image_id == now.image_id
        or (before.image_fingerprint and before.image_fingerprint == now.image_fingerprint)
        or (before.image_digest and _digest(before) == _digest(now))
    )


def _image(run: RunFile) -> str:
    if run.image_digest:
        kind, value = "digest", _digest(run)
    elif run.image_fingerprint:
        kind, value = "fingerprint", run.image_fingerprint
    else:
        kind, value = "id", run.image_id
    return f"{run.image} ({kind} {value.removeprefix('sha256:')[:_SHORT]})"


def _digest(run: RunFile) -> str:
    """The digest without the repository's name: several repositories may have the same image."""
    return (run.image_digest or "").rpartition("@")[2]


def _described(
    what: str, changed: Mapping[str, tuple[str, str]], total: int | None = None
) -> list[str]:
    """Describe changes, from an old value to a new one, once for all evals that changed alike.

    Where all of `total` evals did, none is named.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for eval_key, change in changed.items():
        groups.setdefault(change, []).append(eval_key)
    lines = []
    for (old, new), evals in list(groups.items())[:_NAMED]:
        of = "" if len(evals) == total else f" of {_names(evals)}"
        lines.append(f"{what}{of}: {old} before, {new} now")
    if more := sum(len(evals) for evals in list(groups.values())[_NAMED:]):
        lines.append(f"{what} of {more} more evals")
    return lines


def _names(evals: Sequence[str]) -> str:
    named = ", ".join(evals[:_NAMED])
    return f"{named} and {len(evals) - _NAMED} more" if len(evals) > _NAMED else named


def _differs(before: Setting, now: Setting) -> bool:
    return (before or None) != (now or None)


def _is_lower(before: Setting, now: Setting) -> bool:
    """A higher limit does not count as a difference: an eval that reached it needs more."""
    return isinstance(before, int | float) and isinstance(now, int | float) and 0 < now < before


# The fields of `ContainerSettings` that matter for results, `image` aside.
_COMPARED = ("network", "gpus", "memory", "pids_limit", "timeout", "tmp_limit")
SETTINGS = ("image", *_COMPARED)
