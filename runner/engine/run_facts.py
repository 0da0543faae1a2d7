"""What all attempts of a run share, and what follows from it for the container of one.

Nothing here asks the engine, so that a look into an image can use the same mounts and variables.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from runner.data import paths
from runner.data.cache import Data
from runner.engine.container import ContainerSpec
from runner.engine.ending import stamp
from runner.engine.labels import Label
from runner.gateway.client import FORWARD, PLACE, Door, loopback_of, moved_to
from runner.model import ContainerSettings, Job, container_code
from runner.records.layout import Layout
from runner.registry.code import hidden_in

# Characters of an eval's key in a container's name; an engine takes many more.
MOST_OF_A_NAME = 100

# Where a container sees the registry folder that defines models by their classes.
CLASSES = "/classes"


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What all attempts of a run share.

    Attributes:
        layout: where files go.
        run: id of the run.
        host: name of this host.
        images: ids of images by the names that jobs use.
        added: ids of images with the packages of requirements, by `ContainerSettings.packages`.
        python_paths: each image's own `PYTHONPATH`, by its name, where it has one.
        registries: container path by host folder.
        classes: host folder of a registry that defines models by their classes; None for none.
        environment: values by variable name, for all that any job may name.
        user: `uid:gid` inside the containers.
        cpus: that the engine has; no container can get more.
        gateway: through which containers reach their providers; None where they do so themselves.
        data: what was fetched for evals, by the eval.
        hide: a folder that no eval may see within a folder of code; None for the progress
            directory.
        known_as: what labels have for the progress directory, if not its path.
        code: where folders of code are, if elsewhere than jobs say.
    """

    layout: Layout
    run: str
    host: str
    images: Mapping[str, str] = {}
    registries: Mapping[Path, str] = {}
    environment: Mapping[str, str] = {}
    user: str = ""
    cpus: int = 1
    gateway: Door | None = None
    added: Mapping[tuple[str, str | None], str] = {}
    python_paths: Mapping[str, str] = {}
    classes: Path | None = None
    data: Mapping[str, Data] = {}
    hide: Path | None = None
    known_as: str = ""
    code: Mapping[str, str] = {}

    def image_of(self, settings: ContainerSettings) -> str:
        """The id of the image that a container is created from."""
        if settings.requirements is not None:
            return self.added[settings.packages]
        return self.images[settings.image]

    def has_image_of(self, settings: ContainerSettings) -> bool:
        """Whether that image is on this host."""
        as_it_is = settings.requirements is None and settings.image in self.images
        return as_it_is or settings.packages in self.added

    def mounts_of(self, settings: ContainerSettings) -> dict[Path, str]:
        """The user's folders in a container: container path by host folder, all read-only."""
        places = zip(map(Path, settings.code), container_code(len(settings.code)), strict=True)
        code = {folder: place for folder, place in places if folder not in self.registries}
        classes = {} if self.classes is None else {self.classes: CLASSES}
        return {**self.registries, **code, **classes}

    def hidden_of(self, settings: ContainerSettings) -> dict[str, bool]:
        """What is empty in these folders, as `ContainerSpec.hidden`."""
        mounts = self.mounts_of(settings)
        return {
            f"{mounts[folder]}/{path}": is_folder
            for folder in map(Path, settings.code)
            for path, is_folder in hidden_in(folder, self.hide or self.layout.root)
        }

    def environment_of(self, settings: ContainerSettings) -> dict[str, str]:
        """The variables of a container, except for those that the gateway changes."""
        values = {name: self.environment[name] for name in settings.env}
        if settings.code:
            mounts = self.mounts_of(settings)
            first = self.python_path_of(settings, values)
            places = (mounts[Path(folder)] for folder in settings.code)
            values["PYTHONPATH"] = ":".join([*([first] if first else []), *places])
        return {"HOME": "/tmp", **values}  # noqa: S108 - inside the container

    def python_path_of(self, settings: ContainerSettings, values: Mapping[str, str]) -> str:
        """Where Python looks for modules in a container with these variables, or in the image."""
        return values.get("PYTHONPATH") or self.python_paths.get(settings.image, "")

    def arguments_of(self, job: Job) -> tuple[str, ...]:
        """The program of a job and its arguments."""
        return job.argv if self.classes is None else (*job.argv, "--registry_path", CLASSES)

    def spec(self, job: Job, attempt: str) -> ContainerSpec:
        """What the container of an attempt is created from."""
        code = tuple(self.code.get(folder, folder) for folder in job.settings.code)
        settings = msgspec.structs.replace(job.settings, code=code)
        argv = self.arguments_of(job)
        mounts = self.mounts_of(settings)
        values = self.environment_of(settings)
        if self.gateway is not None:
            mounts = {**mounts, self.gateway.enter(job, attempt): PLACE}
            if settings.network == "host":
                own = loopback_of(attempt)
                values = {name: moved_to(own, name, text) for name, text in values.items()}
                argv = (f"--listen={own}", *argv)
            argv = (*FORWARD, *argv)
        if data := self.data.get(job.eval):
            mounts = {**mounts, **paths.MOUNTS, data.content: paths.CONTENT}
            values |= paths.reading() | paths.python_path(self.python_path_of(settings, values))
        if settings.cpus and settings.cpus > self.cpus:
            settings = msgspec.structs.replace(settings, cpus=float(self.cpus))
        eval_part = re.sub("[^a-zA-Z0-9_.-]+", "-", job.eval)[:MOST_OF_A_NAME]
        return ContainerSpec(
            name=f"evalset-{eval_part}-{attempt}",
            image=self.image_of(settings),
            argv=argv,
            private=self.layout.private(attempt),
            mounts=mounts,
            hidden=self.hidden_of(settings),
            environment=values,
            labels={
                Label.COMMAND: json.dumps(job.command),
                Label.ATTEMPT: attempt,
                Label.HOST: self.host,
                Label.PROGRESS: self.known_as or str(self.layout.root),
                Label.MODEL: self.layout.model,
                Label.EVAL_SET: self.layout.eval_set,
                Label.CREATED: stamp(),
            },
            user=self.user,
            settings=settings,
        )
