import json
from collections.abc import Mapping
from pathlib import Path

import msgspec

from runner.execute import clock
from runner.execute.container import ContainerSpec
from runner.execute.image import Image
from runner.execute.labels import Label
from runner.job import Job
from runner.record.layout import Layout


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What all attempts of a run share.

    Attributes:
        layout: where files go.
        run: id of the run.
        host: name of this host.
        images: by the names that jobs use.
        registries: container path by host folder.
        environment: values by variable name, for all that any job may name.
        user: `uid:gid` inside the containers.
        cpus: that the engine has; no container can get more.
    """

    layout: Layout
    run: str
    host: str
    images: Mapping[str, Image]
    registries: Mapping[Path, str]
    environment: Mapping[str, str]
    user: str
    cpus: int

    def spec(self, job: Job, attempt: str) -> ContainerSpec:
        """What the container of an attempt is created from."""
        settings = job.settings
        if settings.cpus and settings.cpus > self.cpus:
            settings = msgspec.structs.replace(settings, cpus=float(self.cpus))
        values = {name: self.environment[name] for name in settings.env}
        return ContainerSpec(
            image=self.images[settings.image].id,
            argv=job.argv,
            private=self.layout.private(attempt),
            mounts=self.registries,
            environment={"HOME": "/tmp", **values},  # noqa: S108 - inside the container
            labels={
                Label.RUN: self.run,
                Label.JOB: job.key,
                Label.COMMAND: json.dumps(job.command),
                Label.ATTEMPT: attempt,
                Label.HOST: self.host,
                Label.PROGRESS: str(self.layout.root),
                Label.MODEL: self.layout.model,
                Label.EVAL_SET: self.layout.eval_set,
                Label.CREATED: clock.stamp(),
            },
            user=self.user,
            settings=settings,
        )
