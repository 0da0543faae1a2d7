from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from runner.engine.container import ContainerSpec
from runner.engine.image_probe import NoGpuError
from runner.errors import UsageError
from runner.host import Host
from runner.image.image import find_image, look_up_image
from runner.image.look import Question, look_inside
from runner.model import ContainerSettings, Job
from runner.plan.obstacles import (
    NO_GPU,
    Look,
    Obstacle,
    Surroundings,
    grouped,
    obstacles,
    refusal,
    some,
)
from runner.plan.plan import Plan
from runner.registry.content import state_of_folders
from runner.report.text import evals
from runner.run.prepare import OAIEVAL, Prepared, environment_for, noting

# Containers that are alike in these are looked into once.
_Kind = tuple[str, tuple[str, ...], str | None, str]


def fit(prepared: Prepared, plan: Plan, host: Host, *, pull: bool = True) -> Prepared:
    """Find which evals of a plan cannot run in their image, before any of them is started.

    They are left out of plans that are made from what this returns. The drop-in only says which
    they are, and tries them, as upstream would.

    Args:
        plan: what there is to do.
        pull: whether an image that is not here is pulled; else its evals are not looked at.

    Raises:
        UsageError: every eval would fail, or one would and nothing is to run then.
        EnvironmentFault: the engine does not do its part.
    """
    options = prepared.options
    if not options.probe or options.run_command != OAIEVAL or not plan.todo:
        return prepared
    fitness = _Fitness(prepared, plan, host, pull=pull)
    with noting(prepared.warnings):
        found = fitness.obstacles()
    said = tuple(
        f"{some(names)}: {obstacle.why}; {obstacle.cure}"
        for obstacle, names in grouped(found).items()
    )
    if found and options.all_or_none:
        raise _refused(said, len(found))
    warnings = fitness.warnings
    if options.as_typed:
        found, warnings = {}, [*said, *warnings]
    return msgspec.structs.replace(
        prepared, obstacles=found, warnings=(*prepared.warnings, *warnings)
    )


def _refused(said: Sequence[str], count: int) -> UsageError:
    error = UsageError(
        f"{evals(count)} cannot run, and --exit-on-error asks for all or none",
        "leave it out to run the others, or leave these out with --exclude",
    )
    for line in said:
        error.add_note(f"Error: {line}")
    return error


class _Fitness:
    """Looks into the images of a plan.

    Attributes:
        warnings: of what may go wrong, one line each.
    """

    def __init__(self, prepared: Prepared, plan: Plan, host: Host, *, pull: bool) -> None:
        self._prepared = prepared
        self._plan = plan
        self._host = host
        self._pull = pull
        self._folders = {place: folder for folder, place in prepared.mounts.items()}
        self._content = state_of_folders(prepared.mounts)
        self._environment = environment_for(plan, prepared, host)
        self.warnings: list[str] = []

    def obstacles(self) -> dict[str, Obstacle]:
        """What each eval surely fails of, by key, in the plan's order."""
        kinds: dict[_Kind, list[Job]] = {}
        for job in self._plan.todo:
            settings = job.settings
            kind = (settings.image, settings.env, settings.gpus, settings.network)
            kinds.setdefault(kind, []).append(job)
        found: dict[str, Obstacle] = {}
        for jobs in kinds.values():
            found |= self._of(jobs)
        return {job.eval: found[job.eval] for job in self._plan.todo if job.eval in found}

    def _of(self, jobs: Sequence[Job]) -> dict[str, Obstacle]:
        memory = max(job.settings.memory for job in jobs)
        settings = msgspec.structs.replace(jobs[0].settings, memory=memory)
        names = [job.eval for job in jobs]
        without_gpus = False
        try:
            look = self._look(jobs[0], settings, names)
        except NoGpuError:
            without_gpus = True
            look = self._look(jobs[0], msgspec.structs.replace(settings, gpus=None), names)
        if look is None:
            return {}
        around = self._surroundings(settings)
        if error := refusal(look, around):
            raise error
        found, warnings = obstacles(look, names, around)
        self.warnings += (each for each in warnings if each not in self.warnings)
        return dict.fromkeys(names, NO_GPU) if without_gpus else found

    def _surroundings(self, settings: ContainerSettings) -> Surroundings:
        return Surroundings(
            settings=settings,
            folders=self._folders,
            providers=frozenset(self._prepared.routes),
            environment=frozenset(settings.env),
            defines_model=self._prepared.resolution.defines_model,
        )

    def _look(self, job: Job, settings: ContainerSettings, names: Sequence[str]) -> Look | None:
        prepared = self._prepared
        engine = prepared.engine
        image = self._image(settings.image)
        if image is None:
            self.warnings.append(
                f"the image {settings.image} is not here yet, so its evals were not looked at"
            )
            return None
        question = Question(
            models=tuple(prepared.options.model.split(",")),
            arguments=job.argv.arguments,
            evals=tuple(names),
            content=self._content,
        )
        user = "0:0" if engine.info().rootless else self._host.user
        spec = _spec(image, settings, prepared.mounts, self._environment, user)
        look = look_inside(engine.api, spec, question, self._host)
        if look is None or not look.looked:
            self.warnings.append(
                f"the image {settings.image} has no `oaieval` of Python's, so that nobody knows "
                "which evals can run in it"
            )
            return None
        return look

    def _image(self, name: str) -> str | None:
        prepared = self._prepared
        if name == prepared.image.name:
            return prepared.image.id
        if self._pull:
            return find_image(prepared.engine.api, name).id
        found = look_up_image(prepared.engine.api, name)
        return found.id if found else None


def _spec(
    image: str,
    settings: ContainerSettings,
    mounts: Mapping[Path, str],
    environment: Mapping[str, str],
    user: str,
) -> ContainerSpec:
    """The container of any of some evals, as far as a look needs it."""
    values = {name: environment[name] for name in settings.env}
    return ContainerSpec(
        name="",
        image=image,
        argv=(),
        private=Path(),
        mounts=mounts,
        environment={"HOME": "/tmp", **values},  # noqa: S108 - inside the container
        labels={},
        user=user,
        settings=settings,
    )
