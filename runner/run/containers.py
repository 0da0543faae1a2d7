"""What the containers of a run get: images, packages, mounts and variables."""

from collections.abc import Callable, Iterable

import msgspec

from runner.engine.run_facts import RunFacts
from runner.gateway.client import Gateway
from runner.host import Host
from runner.image.added import Added, image_with, lock_of, look_up_image_with
from runner.image.image import Image, find_image, look_up_image
from runner.image.requirements import Lock, read_requirements
from runner.model import Job
from runner.plan.pins import RunFile
from runner.plan.plan import Plan
from runner.run.prepare import Prepared, environment_for

# What a container is created from: `ContainerSettings.packages`.
Packages = tuple[str, str | None]


def with_locks(
    prepared: Prepared,
    plan: Plan,
    before: RunFile | None,
    host: Host,
    *,
    tell: Callable[[str], None],
) -> Prepared:
    """Add to a run the packages that the requirements of its evals add to their images.

    Args:
        prepared: the run.
        plan: its jobs.
        before: the run before; if it has chosen packages for the same requirements, they are kept.
        host: this one.
        tell: is told what is being done.

    Raises:
        UsageError: requirements cannot be fulfilled.
        EnvironmentFault: the engine or a package index does not do its part.
    """
    wanted = dict.fromkeys(job.settings.packages for job in plan.whole)
    locks: dict[Packages, Lock] = dict(prepared.locks)
    for name, file in wanted:
        if file is not None and (name, file) not in locks:
            added = _added(prepared, name, file)
            known = before.locks if before else {}
            locks[name, file] = lock_of(prepared.engine.api, added, known, host, tell=tell)
    return msgspec.structs.replace(prepared, locks=locks)


def facts_of(
    prepared: Prepared,
    plan: Plan,
    host: Host,
    *,
    run: str = "",
    gateway: Gateway | None = None,
    makes: bool = True,
    tell: Callable[[str], None],
) -> RunFacts:
    """What all containers of the evals to run share.

    Args:
        prepared: the run, with the locks of its packages.
        plan: its jobs.
        host: this one.
        run: id of the run.
        gateway: through which containers reach their providers.
        makes: whether to pull or build images that are not on this host; if not, they are not used.
        tell: is told what is being done.

    Raises:
        UsageError: a variable that a rule names is not set.
        EnvironmentFault: an image cannot be pulled or built, or the engine does not do its part.
    """
    engine = prepared.engine
    find = find_image if makes else look_up_image
    default = prepared.options.settings.image
    names = {job.settings.image for job in plan.jobs} - {default}
    found = {name: find(engine.api, name) for name in names} | {default: prepared.image}
    images = {name: image for name, image in found.items() if image is not None}
    info = engine.info()
    return RunFacts(
        layout=prepared.layout,
        run=run,
        host=host.name,
        images={name: image.id for name, image in images.items()},
        added=_images_with_packages(prepared, plan.todo, host, makes=makes, tell=tell),
        python_paths={name: image.python_path for name, image in images.items()},
        classes=prepared.classes,
        registries=prepared.mounts,
        environment=environment_for(plan, prepared, host),
        user="0:0" if info.rootless else host.user,
        cpus=info.cpus,
        gateway=gateway,
        data={job.eval: prepared.data[job.eval] for job in plan.todo if job.eval in prepared.data},
    )


def _images_with_packages(
    prepared: Prepared,
    jobs: Iterable[Job],
    host: Host,
    *,
    makes: bool,
    tell: Callable[[str], None],
) -> dict[Packages, str]:
    """Ids of the images of jobs with requirements."""
    found: dict[Packages, str] = {}
    for name, file in dict.fromkeys(job.settings.packages for job in jobs):
        if file is None:
            continue
        added = _added(prepared, name, file)
        lock = prepared.locks[name, file]
        api = prepared.engine.api
        image: Image | None = (
            image_with(api, added, lock, host, tell=tell)
            if makes
            else look_up_image_with(api, added, lock)
        )
        if image is not None:
            found[name, file] = image.id
    return found


def _added(prepared: Prepared, name: str, file: str) -> Added:
    default = prepared.options.settings.image
    api = prepared.engine.api
    image = prepared.image if name == default else find_image(api, name)
    return Added.to(api, image, read_requirements(file))
