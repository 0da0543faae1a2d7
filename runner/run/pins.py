from collections.abc import Collection, Mapping, Sequence

import msgspec

from runner.errors import UsageError
from runner.image.image import own_fingerprint
from runner.model import Command, ContainerSettings, Job
from runner.plan.pins import SETTINGS, Pins, Value, differences
from runner.plan.plan import Plan
from runner.records.run_file import RunFile, next_generation, read_run_file
from runner.registry.content import DataFiles, content_of, digest_of, parse_folder
from runner.registry.entries import RegistryFile, read_folder
from runner.registry.rules import settings_for
from runner.run.prepare import Prepared


def check_pins(
    prepared: Prepared, plan: Plan, now: RunFile, adopted: Collection[str] = ()
) -> tuple[RunFile, str]:
    """Compare a run with the one that finished evals of it, and refuse to mix what differs.

    Args:
        prepared: the run; its layout is where the other one's file is looked for.
        plan: what it sets out to do.
        now: what it would be pinned to.
        adopted: evals whose containers an earlier run left.

    Returns:
        What the run is pinned to, and a warning where a difference is allowed (`--repin`). Where
        there is none, it is empty, and finished evals stay pinned to what they got: perhaps less.

    Raises:
        UsageError: it differs in what matters for results.
    """
    differs = difference(prepared, plan, now, adopted)
    if not differs:
        return _keep_finished(prepared, plan, now, adopted), ""
    if not prepared.options.repin:
        fresh = "--no-resume"
        if prepared.options.snapshot is not None:
            fresh += " --snapshot-branch NEW"  # nothing is ever taken from the old one
        raise UsageError(
            f"{differs}; `--repin` goes on and keeps what is finished, `{fresh}` starts over"
        )
    return now, f"{differs}; what is finished stays, all else runs as it is now"


def difference(prepared: Prepared, plan: Plan, now: RunFile, adopted: Collection[str] = ()) -> str:
    """One line on how a run differs from the one that finished evals of it; empty if it does not.

    Evals that are not finished count for nothing: they run as they are now.
    """
    before = read_run_file(prepared.layout.run) if prepared.options.resume else None
    finished = plan.finished.union(adopted)
    if before is None or not finished:
        return ""
    found = differences(
        _pins(before),
        _pins(now),
        finished={
            job.argv.key: job.eval
            for job in (*plan.whole, *_outside(prepared, plan))
            if job.eval in finished
        },
        alike=_is_alike(before, plan),
    )
    if not found:
        return ""
    state = "is finished" if plan.finished else "still runs"
    return (
        f"what {state} of {plan.model} {plan.eval_set} was started otherwise than this run would "
        f"start it: {'; '.join(found)}"
    )


def _is_alike(before: RunFile, plan: Plan) -> bool:
    """Whether the last run had this one's arguments; else it did not finish what this one skips."""
    job = plan.whole[0]
    forms = (job.command.without_eval, job.argv.without_eval)
    return any(Command(command).without_eval in forms for command in before.commands[:1])


def pin(prepared: Prepared, plan: Plan, run_id: str) -> RunFile:
    """What a run is pinned to, the registry content of other shards' evals included."""
    options = prepared.options
    settings = options.settings
    image = prepared.image
    before = read_run_file(prepared.layout.run) if options.resume else None
    # What other selections and arguments have finished stays pinned.
    kept = _pins(before) if before else None
    now = {job.argv.key: job for job in (*plan.whole, *_outside(prepared, plan))}
    gets = {key: kept.of(key) for key in kept.registry or ()} if kept else {}
    gets |= {key: _values(job.settings) for key, job in now.items()}
    return RunFile(
        run=run_id,
        model=options.model,
        eval_set=options.eval_set,
        image=image.name,
        image_id=image.id,
        image_digest=image.digest,
        image_fingerprint=_fingerprint(prepared, before),
        commands=plan.commands,
        in_eval_set=len(prepared.resolution.evals),
        shard=options.shard,
        limits={
            "memory": settings.memory,
            "cpus": settings.cpus,
            "pids_limit": settings.pids_limit,
            "timeout": settings.timeout,
            "tmp_limit": settings.tmp_limit,
        },
        network=settings.network,
        gpus=settings.gpus,
        registry=dict((kept and kept.registry) or {}) | _digests(prepared, plan.whole),
        settings=_unlike(_values(settings), gets),
        generation=next_generation(prepared.layout),
    )


def _keep_finished(
    prepared: Prepared, plan: Plan, now: RunFile, adopted: Collection[str]
) -> RunFile:
    before = read_run_file(prepared.layout.run) if prepared.options.resume else None
    if before is None:
        return now
    then, pins = _pins(before), _pins(now)
    stay = {
        job.argv.key
        for job in (*plan.whole, *_outside(prepared, plan))
        if job.eval in plan.finished or job.eval in adopted
    }
    gets = {
        key: (then.of(key) if key in stay else None) or pins.of(key) for key in pins.registry or ()
    }
    return msgspec.structs.replace(now, settings=_unlike(pins.own, gets))


def _values(settings: ContainerSettings) -> dict[str, Value]:
    return {name: getattr(settings, name) for name in SETTINGS}


def _unlike(
    own: Mapping[str, Value], gets: Mapping[str, Mapping[str, Value] | None]
) -> dict[str, dict[str, Value]]:
    """What jobs get that is not the run's own, for those that get anything of the kind."""
    found = {
        key: {
            name: values[name] for name in SETTINGS if name in values and values[name] != own[name]
        }
        for key, values in gets.items()
        if values is not None
    }
    return {key: values for key, values in found.items() if values}


def _outside(prepared: Prepared, plan: Plan) -> list[Job]:
    """Jobs of finished evals that this selection leaves out: one set is held to the same."""
    options = prepared.options
    jobs = []
    for name in sorted(plan.finished.difference(job.eval for job in plan.whole)):
        like = plan.whole[0].argv
        argv = Command((*like[:2], name, *like.arguments))
        settings = settings_for(
            name, defaults=options.settings, rules=prepared.rules, explicit=options.explicit
        )
        jobs.append(Job(command=argv, argv=argv, settings=settings))
    return jobs


def _fingerprint(prepared: Prepared, before: RunFile | None) -> str | None:
    image = prepared.image
    if before is not None and before.registry is not None and before.image_id == image.id:
        return before.image_fingerprint  # which saves asking the engine
    return own_fingerprint(prepared.engine.api, image)


def _pins(file: RunFile) -> Pins:
    return Pins(
        image=file.image,
        image_id=file.image_id,
        image_digest=file.image_digest,
        image_fingerprint=file.image_fingerprint,
        own={"image": file.image, "network": file.network, "gpus": file.gpus}
        | {name: file.limits.get(name) for name in SETTINGS if name in file.limits},
        settings=file.settings,
        # a digest from before there were settings has some of them in it
        registry=None if file.settings is None else file.registry,
    )


def _digests(prepared: Prepared, jobs: Sequence[Job]) -> dict[str, str]:
    """Digest of what each job takes from outside the image, by the key of its argv."""
    options = prepared.options
    folders = [
        parse_folder(place, (*files, *_modelgraded(prepared, place, files)))
        for place, files in prepared.own.items()
    ]
    data = DataFiles({place: folder for folder, place in prepared.mounts.items()})
    digests = {}
    for job in jobs:
        content = content_of(
            job.eval,
            model=options.model,
            passed_through=options.passed_through,
            folders=folders,
        )
        hashes = {key: data.hash_of(*key) for key in content.data}
        digests[job.argv.key] = digest_of(content, hashes)
    return digests


def _modelgraded(
    prepared: Prepared, place: str, files: Sequence[RegistryFile]
) -> list[RegistryFile]:
    """How a folder's own graders grade; read only where an entry may ask for one."""
    if not any("modelgraded" in file.text for file in files):
        return []
    folders = {where: folder for folder, where in prepared.mounts.items()}
    return read_folder(folders[place], kinds=("modelgraded",))
