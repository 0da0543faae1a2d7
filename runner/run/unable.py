from collections.abc import Callable, Container, Sequence
from pathlib import Path

import msgspec

from runner.data import paths
from runner.engine.container import ContainerSpec
from runner.engine.image_probe import NoGpuError
from runner.errors import UsageError
from runner.host import Host
from runner.image.build import kind_of
from runner.image.image import look_up_image, modules_in
from runner.image.look_inside import Question, look_inside
from runner.model import ContainerSettings, Job
from runner.options import OAIEVAL, extra_image
from runner.plan.explanations import obstacles, refusal
from runner.plan.obstacles import (
    NO_GPU,
    Context,
    Look,
    Obstacle,
    caution_about,
    grouped,
    lacks_image,
    obstacle_of,
    some,
)
from runner.plan.plan import Plan
from runner.registry.code import modules_of
from runner.registry.content import astray, state_of_folders
from runner.registry.needs import needs
from runner.report.text import evals
from runner.run.containers import facts_of
from runner.run.prepare import Prepared, with_warnings


def find_obstacles(
    prepared: Prepared,
    plan: Plan,
    host: Host,
    *,
    makes: bool = True,
    tell: Callable[[str], None],
) -> Prepared:
    """Find which evals of a plan cannot run in their image, before any of them is started.

    Plans that are made from the result skip them. The drop-in only warns about them and tries
    them, as upstream would.

    Args:
        prepared: the run, with the locks of its packages.
        plan: the jobs.
        host: this one.
        makes: whether to pull or build an image that is not on this host; if not, its evals are not
            looked at.
        tell: is told what is being done.

    Raises:
        UsageError: every eval would fail, or one would and the user wants all or none.
        EnvironmentFault: the engine does not do its part.
    """
    options = prepared.options
    if not options.probe or options.run_command != OAIEVAL or not plan.todo:
        return prepared
    if prepared.engine.borrowed:  # it does not see the folders that evals import from
        tell("no Docker engine is here, so it was not looked at which evals can run")
        return prepared
    fitness = _Fitness(prepared, plan, host, makes=makes, tell=tell)
    with with_warnings(prepared.warnings):
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


def _adds(settings: ContainerSettings) -> bool:
    """Whether containers have modules in addition to those of their image."""
    return settings.requirements is not None or bool(settings.code)


def _with_data_astray(context: Context, look: Look) -> Context:
    """The same, knowing where missing data are on this host."""
    found = {}
    for each in (each for findings in look.evals.values() for each in findings):
        home = context.folder_of(each.file) if each.kind == "data" else None
        if home and (path := astray(home[1], each.said)):
            found[each.file, each.said] = path
    return msgspec.structs.replace(context, astray=found)


def _refused(said: Sequence[str], count: int) -> UsageError:
    error = UsageError(
        f"{evals(count)} cannot run, and --exit-on-error asks for all or none",
        "leave that option out to run the others, or skip these with --exclude",
    )
    for line in said:
        error.add_note(f"Error: {line}")
    return error


class _Fitness:
    """Looks into the images of a plan.

    Attributes:
        warnings: about what may go wrong, one line each.
    """

    def __init__(
        self,
        prepared: Prepared,
        plan: Plan,
        host: Host,
        *,
        makes: bool,
        tell: Callable[[str], None],
    ) -> None:
        self._prepared = prepared
        self._plan = plan
        self._host = host
        self._facts = facts_of(prepared, plan, host, makes=makes, tell=tell)
        self.warnings: list[str] = []

    def obstacles(self) -> dict[str, Obstacle]:
        """Why evals will surely fail, by key, in the plan's order."""
        kinds: dict[tuple[object, ...], list[Job]] = {}
        for job in self._plan.todo:
            it = job.settings
            has_data = job.eval in self._facts.data
            # One look suffices for containers that are alike in these.
            kind = (it.packages, it.code, it.env, it.gpus, it.network, has_data)
            kinds.setdefault(kind, []).append(job)
        found: dict[str, Obstacle] = {}
        for jobs in kinds.values():
            seen = self._of(jobs)
            found |= seen | self._measured(jobs, seen)
        return {job.eval: found[job.eval] for job in self._plan.todo if job.eval in found}

    def _of(self, jobs: Sequence[Job]) -> dict[str, Obstacle]:
        memory = max(job.settings.memory for job in jobs)
        settings = msgspec.structs.replace(jobs[0].settings, memory=memory)
        names = [job.eval for job in jobs]
        without_gpus = False
        try:
            look = self._look(jobs[0], settings, names)
        except NoGpuError:
            without_gpus = not self._prepared.options.hosts  # which may have some
            look = self._look(jobs[0], msgspec.structs.replace(settings, gpus=None), names)
        if look is None:
            return {}
        context = self._context(jobs[0], settings)
        context = _with_data_astray(context, look)
        if error := refusal(look, context):
            raise error
        found, warnings = obstacles(look, names, context)
        self.warnings += (each for each in warnings if each not in self.warnings)
        return dict.fromkeys(names, NO_GPU) if without_gpus else found

    def _measured(self, jobs: Sequence[Job], seen: Container[str]) -> dict[str, Obstacle]:
        """Why evals of upstream's fail in an image of ours, as measured.

        If the user adds packages or code, a missing package counts only if the look found it too.
        """
        settings = jobs[0].settings
        here = self._kind_of(settings)
        if here is None:
            return {}
        context = self._context(jobs[0], settings)
        model = self._prepared.options.model
        found = {}
        cautions: dict[str, list[str]] = {}
        fetch = f"evalset data fetch {model} {self._prepared.options.eval_set}"
        for job in jobs:
            need = needs().get(job.eval)
            if need is None:
                continue
            if need.lacks_package(here) and _adds(settings) and job.eval not in seen:
                continue
            if need.image not in {"", here}:
                found[job.eval] = lacks_image(extra_image(need.image), need.image)
            elif obstacle := obstacle_of(need, context, model=model):
                found[job.eval] = obstacle
            elif caution := caution_about(need, context, timeout=job.settings.timeout, fetch=fetch):
                cautions.setdefault(caution, []).append(job.eval)
        self.warnings += (f"{some(names)}: {caution}" for caution, names in cautions.items())
        return found

    def _kind_of(self, settings: ContainerSettings) -> str | None:
        """Which image of ours containers are created from; None for any other image."""
        prepared = self._prepared
        api, name = prepared.engine.api, settings.image
        is_default = name == prepared.image.name
        image = prepared.image if is_default else look_up_image(api, name)
        return None if image is None else kind_of(api, image)

    def _replaces(self, settings: ContainerSettings) -> bool:
        """Whether containers may have other modules in the place of their image's."""
        if settings.requirements is not None:
            return True
        if not settings.code:
            return False
        image = look_up_image(self._prepared.engine.api, settings.image)
        if image is None:
            return True
        there = set(modules_in(self._prepared.engine, image, self._host))
        return any(there & modules_of(Path(folder)) for folder in settings.code)

    def _environment(self, job: Job, settings: ContainerSettings) -> dict[str, str]:
        found = self._facts.environment_of(settings)
        return found | paths.reading() if job.eval in self._facts.data else found

    def _context(self, job: Job, settings: ContainerSettings) -> Context:
        mounts = self._facts.mounts_of(settings)
        return Context(
            settings=settings,
            folders={where: folder for folder, where in mounts.items()},
            providers=frozenset(self._prepared.routes),
            environment=self._environment(job, settings),
            defines_model=self._prepared.resolution.defines_model,
        )

    def _look(self, job: Job, settings: ContainerSettings, names: Sequence[str]) -> Look | None:
        prepared = self._prepared
        engine = prepared.engine
        facts = self._facts
        if not facts.has_image_of(settings):
            self.warnings.append(
                f"the image {settings.image} is not here yet, so its evals were not looked at"
            )
            return None
        mounts = facts.mounts_of(settings)
        here = self._kind_of(settings)
        tested: set[str] = set()
        if here is not None and not self._replaces(settings):
            tested = {name for name in names if name in needs()}
        if _adds(settings):  # which may be what these lack
            tested -= {name for name in tested if needs()[name].lacks_package(here)}
        question = Question(
            models=tuple(prepared.options.model.split(",")),
            arguments=facts.arguments_of(job)[3:],
            evals=tuple(names),
            content=state_of_folders(mounts),
            tested=tuple(sorted(tested)),
        )
        spec = ContainerSpec(
            name="",
            image=facts.image_of(settings),
            argv=(),
            private=Path(),
            mounts=mounts,
            hidden=facts.hidden_of(settings),
            environment=self._environment(job, settings),
            labels={},
            user=facts.user,
            settings=settings,
        )
        look = look_inside(engine.api, spec, question, self._host)
        if look is None or not look.looked:
            self.warnings.append(
                f"the image {settings.image} has no `oaieval` that is a Python program, "
                "so that nobody knows which evals can run in it"
            )
            return None
        return look
