from collections.abc import Collection, Mapping

import msgspec

from runner.errors import UsageError
from runner.image.image import own_fingerprint
from runner.model import Command, ContainerSettings, key_of
from runner.plan.grammar import seed_of
from runner.plan.pins import SETTINGS, RunFile, differences
from runner.plan.plan import Plan
from runner.records.run_file import next_generation
from runner.registry.code import CodeDigests
from runner.registry.content import digests_of
from runner.report.text import evals
from runner.run.prepare import Prepared


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is pinned to, and how that differs from the run before.

    Attributes:
        file: for run.json. If nothing differs, finished evals stay pinned to what they got, which
            may be less than what the run gives now.
        differs: how the run differs from the one that finished some of its evals, on one line;
            empty if it does not. Unfinished evals do not count, because they run as they are now.
    """

    file: RunFile
    differs: str


def pin(
    prepared: Prepared,
    plan: Plan,
    run_id: str,
    before: RunFile | None,
    taken_over: Collection[str] = (),
) -> Pinned:
    """Pin a run to all that its results depend on, and compare that with the run before.

    `before` is None if there was no run, or this one starts over; `taken_over` are evals whose
    containers this run takes over.
    """
    jobs = {job.argv.key: (job.eval, job.settings) for job in plan.whole}
    # Finished evals that this selection skips must have had the same conditions.
    like = plan.whole[0].argv
    for name in sorted(plan.finished.difference(job.eval for job in plan.whole)):
        argv = Command((*like[:2], name, *like.arguments))
        jobs[argv.key] = (name, prepared.settings_for(name))
    finished = plan.finished.union(taken_over)
    # What other selections and arguments have finished stays pinned.
    kept = {key: before.settings_of(key) or {} for key in before.digests} if before else {}
    given = {
        key: {setting: getattr(settings, setting) for setting in SETTINGS}
        for key, (_, settings) in jobs.items()
    }
    now = _run_file(prepared, plan, run_id, before).with_settings(kept | given)
    without = {
        job.argv.key
        for job in plan.todo
        if job.eval not in prepared.data and job.eval not in finished
    }
    data = {key: value for key, value in (now.data or {}).items() if key not in without}
    now = msgspec.structs.replace(now, data=data)
    now = _with_code(prepared, now, before, {key: settings for key, (_, settings) in jobs.items()})
    compared = {key: name for key, (name, _) in jobs.items() if name in finished}
    differs = ""
    if before and compared:
        # Whether the run before has finished what this one skips.
        ours = (plan.whole[0].command.without_eval, like.without_eval)
        same = any(Command(command).without_eval in ours for command in before.commands[:1])
        differs = "; ".join(differences(before, now, finished=compared, same_arguments=same))
    if differs:
        state = "finished" if plan.finished else "running"
        differs = (
            f"{state} evals of {prepared.options.model} {prepared.options.eval_set} were started "
            f"under different conditions: {differs}"
        )
    else:
        stay = {key: settings for key, settings in kept.items() if key in compared}
        now = now.with_settings(kept | given | stay)
        data = {key: value for key, value in (now.data or {}).items() if key not in compared}
        before_data = {k: v for k, v in _data_of(before).items() if k in compared}
        now = msgspec.structs.replace(now, data=data | before_data)
    return Pinned(file=now, differs=differs)


def check_pins(prepared: Prepared, pinned: Pinned) -> str:
    """Refuse to mix results of different conditions, or warn if `--repin` allows it."""
    if not pinned.differs:
        return ""
    if not prepared.options.repin:
        fresh = "--no-resume"
        if prepared.options.snapshot is not None:
            fresh += " --snapshot-branch NEW"  # else the run would resume from the old one
        raise UsageError(
            f"{pinned.differs}",
            f"`--repin` continues and keeps the finished evals, `{fresh}` starts over",
        )
    return f"{pinned.differs}; finished evals are kept, the others run under the new conditions"


def missing_data(prepared: Prepared, plan: Plan, before: RunFile | None) -> str:
    """Which evals to run are pinned to data that are missing, on one line; empty for none.

    With `--repin` the evals run without them.
    """
    pinned = _data_of(before)
    missing = [
        job.eval for job in plan.todo if job.argv.key in pinned and job.eval not in prepared.data
    ]
    if not missing or prepared.options.repin:
        return ""
    more = f" and {evals(len(missing) - 1)} more" if missing[1:] else ""
    return f"this run is pinned to data of {missing[0]}{more} that are not on this host"


def check_data(prepared: Prepared, plan: Plan, before: RunFile | None) -> None:
    """Refuse to run evals without the data that they are pinned to."""
    if missing := missing_data(prepared, plan, before):
        fetch = f"evalset data fetch {prepared.options.model} {prepared.options.eval_set}"
        raise UsageError(missing, f"fetch them with `{fetch}`, or run without them with `--repin`")


def _data_of(before: RunFile | None) -> dict[str, str]:
    return (before.data or {}) if before else {}


def _run_file(prepared: Prepared, plan: Plan, run_id: str, before: RunFile | None) -> RunFile:
    """What the run is pinned to, without the settings of single jobs."""
    options = prepared.options
    settings = options.settings
    image = prepared.image
    if before is not None and before.registry is not None and before.image_id == image.id:
        fingerprint = before.image_fingerprint  # no need to ask the engine
    else:
        fingerprint = own_fingerprint(prepared.engine.api, image)
    digests = digests_of(
        [job.eval for job in plan.whole],
        model=options.model,
        passed_through=options.passed_through,
        folders={place: folder for folder, place in prepared.mounts.items()},
        files=prepared.own,
    )
    return RunFile(
        run=run_id,
        model=options.model,
        eval_set=options.eval_set,
        image=image.name,
        image_id=image.id,
        image_digest=image.digest,
        image_fingerprint=fingerprint,
        commands=plan.commands,
        in_eval_set=len(prepared.resolution.evals),
        shard=options.shard,
        limits={
            name: value
            for name, value in msgspec.structs.asdict(settings).items()
            if isinstance(value, int | float)
        },
        network=settings.network,
        gpus=settings.gpus,
        seeds=_seeds(prepared),
        data=_data_of(before)
        | {
            job.argv.key: prepared.data[job.eval].lock.sha256
            for job in plan.whole
            if job.eval in prepared.data
        },
        registry=(before.digests if before else {})
        | {job.argv.key: digests[job.eval] for job in plan.whole},
        generation=next_generation(prepared.layout, before),
        unable={job.eval: prepared.obstacles[job.eval].why for job in plan.unable} or None,
    )


def _with_code(
    prepared: Prepared,
    file: RunFile,
    before: RunFile | None,
    jobs: Mapping[str, ContainerSettings],
) -> RunFile:
    """Pin jobs, by the key of their argv, to their code and packages; other jobs keep theirs."""
    digests = CodeDigests(prepared.layout.root)
    code = {key: digests.of(settings.code) for key, settings in jobs.items()}
    locks = {key: prepared.locks.get(settings.packages) for key, settings in jobs.items()}
    packages = {key: lock.digest if lock else "" for key, lock in locks.items()}
    before = before or file
    packages = {key: digest for key, digest in (before.packages | packages).items() if digest}
    texts = before.locks | {lock.key: lock.text for lock in locks.values() if lock}
    return msgspec.structs.replace(
        file,
        code={key: digest for key, digest in (before.code | code).items() if digest},
        packages=packages,
        locks={key: text for key, text in texts.items() if key_of(text) in packages.values()},
    )


def _seeds(prepared: Prepared) -> dict[str, str]:
    """The seeds that evals get: the user's before the image's.

    Images without our hook leave the global random numbers alone.
    """
    image, given = prepared.image, prepared.environment
    seeds = {"PYTHONHASHSEED": image.hash_seed} if image.hash_seed else {}
    seeds |= {name: given[name] for name in ("PYTHONHASHSEED", "EVALS_SEED") if name in given}
    if image.fingerprint is not None:
        seeds["random"] = given.get("EVALS_SEED") or seed_of(prepared.options.passed_through)
    return seeds
