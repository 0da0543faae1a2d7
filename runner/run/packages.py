from collections.abc import Callable, Iterable

import msgspec

from runner.host import Host
from runner.image.added import Added, image_with, lock_of
from runner.image.image import find_image
from runner.image.requirements import read_requirements
from runner.model import Job
from runner.plan.pins import RunFile
from runner.plan.plan import Plan
from runner.run.prepare import Prepared


def with_locks(
    prepared: Prepared,
    plan: Plan,
    before: RunFile | None,
    host: Host,
    *,
    tell: Callable[[str], None],
) -> Prepared:
    """A run that knows which packages the requirements of its evals add to their images.

    Args:
        prepared: the run.
        plan: its jobs.
        before: the run before; where it has chosen packages for the same, they stay the same.
        host: this one.
        tell: what is done.

    Raises:
        UsageError: requirements cannot be fulfilled.
        EnvironmentFault: the engine or a package index does not do its part.
    """
    wanted = dict.fromkeys(job.settings.packages for job in plan.whole)
    locks = dict(prepared.locks)
    for name, file in wanted:
        if file is not None and (name, file) not in locks:
            added = _added(prepared, name, file)
            known = before.locks if before else {}
            locks[name, file] = lock_of(prepared.engine.api, added, known, host, tell=tell)
    return msgspec.structs.replace(prepared, locks=locks)


def images_with_packages(
    prepared: Prepared, jobs: Iterable[Job], host: Host, *, tell: Callable[[str], None]
) -> dict[tuple[str, str | None], str]:
    """Ids of the images of jobs with requirements, built if need be.

    Returns:
        The ids by `ContainerSettings.packages`.

    Raises:
        EnvironmentFault: one cannot be built.
    """
    found: dict[tuple[str, str | None], str] = {}
    for name, file in dict.fromkeys(job.settings.packages for job in jobs):
        if file is not None:
            added = _added(prepared, name, file)
            lock = prepared.locks[name, file]
            built = image_with(prepared.engine.api, added, lock, host, tell=tell)
            found[name, file] = built.id
    return found


def _added(prepared: Prepared, name: str, file: str) -> Added:
    default = prepared.options.settings.image
    api = prepared.engine.api
    image = prepared.image if name == default else find_image(api, name)
    return Added.to(api, image, read_requirements(file))
