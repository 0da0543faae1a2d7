"""The hosts of a run: which can be used, and what they get before evals start there."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue

import msgspec

from runner.engine.engine import Engine
from runner.engine.leftovers import find_leftovers
from runner.engine.run_facts import RunFacts
from runner.errors import EnvironmentFault
from runner.files import make_folder
from runner.host import Host
from runner.hosts.bundles import PYTHON, Bundle, agent_code, folder
from runner.hosts.check import check
from runner.hosts.equip import EquippedHost as There
from runner.hosts.equip import ensure_image, send, start_agent
from runner.hosts.ledger import Ledger
from runner.hosts.links import Collector, Links
from runner.hosts.messages import HostData, Setup
from runner.hosts.spool import local_agent
from runner.hosts.ssh import LOCAL, HostName, Patience, Unusable, parse_hosts
from runner.image.build import BASE_NAME
from runner.image.image import Image, find_image, look_up_image
from runner.model import Job
from runner.options import DEFAULT_IMAGE, EVAL_NETWORK
from runner.plan.actions import Earlier
from runner.plan.cutoffs import TimeBudget
from runner.plan.fleet import Fleet
from runner.plan.placement import Placement
from runner.plan.plan import Plan
from runner.registry.code import hidden_in
from runner.report.display import Display, named_hosts
from runner.run.dispatch import Dispatch
from runner.run.host_results import HostFacts
from runner.run.on_hosts import HostSchedule
from runner.run.prepare import Prepared
from runner.run.record import Recorder
from runner.run.schedule import Event, pause_before


class Usable(msgspec.Struct, frozen=True, kw_only=True):
    """A host of a run.

    Attributes:
        slots: evals at once.
        there: how ssh reaches it; None for this machine.
        image: id there of the image that its agent runs in.
    """

    name: str
    slots: int
    there: There | None
    image: str = ""


class RunHosts:
    """The hosts that a run can use, with an agent on each: the `Hosts` of a run with --hosts.

    Args:
        display: tells people what is being done, and of each host that cannot be used.

    Raises:
        EnvironmentFault: none can be used.

    Attributes:
        names: the hosts that can be used, in the order of --hosts.
        others: how many attempts of other runs' jobs run on hosts.
    """

    def __init__(
        self,
        prepared: Prepared,
        host: Host,
        display: Display,
        recorder: Recorder,
        plan: Plan,
    ) -> None:
        self._prepared = prepared
        self._host = host
        self._recorder = recorder
        self._samples = display.wants_samples
        self._tell = display.note
        self._schedule: HostSchedule | None = None
        names = parse_hosts(prepared.options.hosts)
        if any(each.name == LOCAL for each in names) and not prepared.engine.borrowed:
            _refuse_leftovers(prepared, host)
        resume = prepared.options.resume
        self._ledger = Ledger(
            prepared.layout, is_over=lambda attempt: not resume or recorder.complete(attempt)
        )
        if any(each.name != LOCAL for each in names):
            self._code = self._agent_code()
        self._patience = Patience(
            Counter(each.host for each in self._ledger.started.values()),
            prepared.options.engine_wait,
            display,
        )
        self._usable = self._patience.each(self._ready, {each.name: each for each in names})
        if not self._usable:
            raise EnvironmentFault(
                "no host of --hosts can be used", "see the lines above for what to do"
            )
        lines = {each.name: self._line(each) for each in self._usable}
        self.names: Sequence[str] = [*lines]
        self._links = Links(lines, self._ledger.epoch, recorder.run)
        collector = Collector(lines, self._links.outbid)
        self._links.start(collector)
        collector.wait(
            lambda slow: display.note(f"waiting for the answer of {named_hosts([*slow])}")
        )
        self._inventories = collector.inventories
        if collector.error is not None:
            self._links.close()
            raise collector.error
        self._ledger.keep_epoch(self._links.epoch)
        for name, inventory in self._inventories.items():
            self._ledger.has(name, {each.attempt for each in inventory.attempts})
        for name, why in collector.problems.items():
            if name not in self._inventories:
                display.warn(f"{name}: its agent does not answer: {why}")
        if not self._inventories:
            self._links.close()
            raise EnvironmentFault(
                "no agent answers on any host", "see the lines above for what they say"
            )
        self.others = self._others(plan)

    engine_root = None  # each host looks at its own disk

    def taken_over(self, jobs: Iterable[Job]) -> set[str]:
        """Evals of these jobs that an earlier run has begun on a host that is there."""
        there = {each.attempt for found in self._inventories.values() for each in found.attempts}
        begun = {it.job for it in self._ledger.started.values() if it.attempt in there}
        return {job.eval for job in jobs if job.key in begun}

    def _others(self, plan: Plan) -> int:
        keys = {job.key for job in plan.jobs}
        told = self._ledger.started
        found = (each for it in self._inventories.values() for each in it.attempts)
        return sum(
            not each.ended and each.attempt in told and told[each.attempt].job not in keys
            for each in found
        )

    @property
    def have_something(self) -> bool:
        """Whether anything of an earlier run is left on a host."""
        found = any(each.attempts for each in self._inventories.values())
        return found or bool(self._ledger.started)

    def _setups(self, facts: RunFacts, jobs: Sequence[Job]) -> dict[str, Setup]:
        """Bring to each host what its evals need, and tell what is there.

        A host where that fails is left out.
        """
        contents = _contents(facts, jobs)
        known = self._images(facts, jobs)

        def equip(one: Usable) -> tuple[str, Setup]:
            setup = self._setup(one, facts, jobs, contents, known)
            return one.name, msgspec.structs.replace(setup, samples=self._samples)

        return dict(self._patience.each(equip, {each.name: each for each in self._usable}))

    def schedule(
        self,
        facts: RunFacts,
        plan: Plan,
        *,
        events: SimpleQueue[Event],
        new_id: Callable[[], str],
        budget: TimeBudget | None,
    ) -> HostSchedule:
        """Bring to each host what its evals need, and schedule them.

        Raises:
            EnvironmentFault: no host has what they need.
        """
        options = self._prepared.options
        setups = self._setups(facts, plan.todo)
        if not setups:
            raise EnvironmentFault(
                "no host of --hosts has what the evals need", "see the lines above for what to do"
            )
        slots = {each.name: each.slots for each in self._usable if each.name in setups}
        host_facts = HostFacts(
            layout=facts.layout,
            run=facts.run,
            gateway=facts.gateway,
            setups=setups,
            wait=options.engine_wait,
            least_free=options.min_free_disk,
            on_record=self._recorder.has,
        )
        dispatch = Dispatch(
            self._links,
            host_facts,
            ledger=self._ledger,
            events=events,
            jobs=plan.jobs,
            placement=self._placement(plan, slots, new_id, budget),
            budget=budget,
        )
        self._schedule = HostSchedule(self._links, dispatch, facts.environment, budget)
        return self._schedule

    def _placement(
        self,
        plan: Plan,
        slots: Mapping[str, int],
        new_id: Callable[[], str],
        budget: TimeBudget | None,
    ) -> Placement:
        options = self._prepared.options
        commands = {job.key: job.command for job in plan.todo}
        started = {name: (it.host, it.job) for name, it in self._ledger.started.items()}
        return Placement(
            Fleet(slots, options.engine_wait),
            list(commands),
            at_once=options.jobs or sum(slots.values()),
            retries=options.retries,
            new_id=new_id,
            pause=pause_before,
            earlier=Earlier(done=[job.key for job in plan.done], started=started),
            fits=lambda key: budget is None or budget.fits(commands[key]),
        )

    def close(self) -> None:
        """Let the hosts go; agents keep what is not on record."""
        if self._schedule is not None:
            self._schedule.close()
        else:
            self._links.close()
        self._ledger.end(is_over=self._recorder.complete)

    def _ready(self, named: HostName) -> Usable:
        if named.name == LOCAL:
            try:
                cpus = Engine().info().cpus
            except EnvironmentFault as error:
                raise Unusable(f"{LOCAL}: {error.what}", error.cure) from error
            make_folder(self._prepared.layout.hosts_spool)
            return Usable(name=LOCAL, slots=named.slots or cpus, there=None)
        facts = check(named.name, least=self._prepared.options.min_free_disk)
        there = There(name=named.name, id=self._ledger.id, facts=facts)
        image = ensure_image(there, self._prepared.engine, self._agent_image(), tell=self._tell)
        send(there, self._code, image, tell=self._tell)
        start_agent(there, self._code, image)
        slots = named.slots or facts.cpus
        return Usable(name=named.name, slots=slots, there=there, image=image)

    def _agent_code(self) -> Bundle:
        engine = self._prepared.engine
        python = find_image(engine.api, DEFAULT_IMAGE).labels.get(PYTHON)
        return agent_code(engine, self._agent_image(), python, self._host.cache, tell=self._tell)

    def _agent_image(self) -> Image:
        """The image that agents run in: ours, because an agent has the rights of its engine."""
        api = self._prepared.engine.api
        ours = find_image(api, DEFAULT_IMAGE)
        if self._prepared.options.settings.image == DEFAULT_IMAGE:
            return ours
        base = ours.labels.get(BASE_NAME)
        return (base and look_up_image(api, base)) or ours

    def _line(self, one: Usable) -> list[str]:
        if one.there is not None:
            return one.there.link(self._code)
        return local_agent(self._prepared.layout, self._ledger.id)

    def _images(self, facts: RunFacts, jobs: Sequence[Job]) -> dict[str, Image]:
        """The images that jobs need, by the ids that they have at this machine's engine."""
        api = self._prepared.engine.api
        found = {}
        for job in jobs:
            image = facts.image_of(job.settings)
            if image not in found:
                known = look_up_image(api, image)
                if known is None:
                    raise EnvironmentFault(
                        f"the image {job.settings.image} is gone", "run this again"
                    )
                found[image] = msgspec.structs.replace(known, name=job.settings.image)
        return found

    def _setup(
        self,
        one: Usable,
        facts: RunFacts,
        jobs: Sequence[Job],
        contents: Mapping[Path, Bundle],
        known: Mapping[str, Image],
    ) -> Setup:
        ids = {image: image for image in known}
        places = {path: str(path) for path in contents}
        if one.there is not None:
            ids = {
                each.id: ensure_image(one.there, self._prepared.engine, each, tell=self._tell)
                for each in known.values()
            }
            for content in contents.values():
                send(one.there, content, one.image, tell=self._tell)
            places = {path: one.there.stored(content) for path, content in contents.items()}
        user = facts.user if one.there is None else one.there.facts.user
        return _setup(facts, jobs, ids, places, user)


def _setup(
    facts: RunFacts,
    jobs: Sequence[Job],
    ids: Mapping[str, str],
    places: Mapping[Path, str],
    user: str,
) -> Setup:
    """What a host is told.

    Args:
        ids: of images there, by their ids here.
        places: of folders there, by the folders here.
        user: `uid:gid` of evals there.
    """
    code = {name for job in jobs for name in job.settings.code}
    return Setup(
        run=facts.run,
        images={name: ids[image] for name, image in facts.images.items() if image in ids},
        added=tuple(
            (name, file or "", ids[image])
            for (name, file), image in facts.added.items()
            if image in ids
        ),
        python_paths=dict(facts.python_paths),
        registries=tuple((places[path], place) for path, place in facts.registries.items()),
        code={name: places[Path(name)] for name in code},
        classes=None if facts.classes is None else places[facts.classes],
        hide=str(facts.layout.root),
        environment=dict(facts.environment),
        user=user,
        gateway=facts.gateway is not None,
        shared_network=any(job.settings.network == EVAL_NETWORK for job in jobs),
        data={
            name: HostData(content=places[each.content], paths=tuple(each.lock.paths))
            for name, each in facts.data.items()
        },
    )


def _contents(facts: RunFacts, jobs: Sequence[Job]) -> dict[Path, Bundle]:
    """The folders that evals see, by where they are here."""
    found = {path: folder("registry", path) for path in facts.registries}
    for name in {name for job in jobs for name in job.settings.code}:
        path = Path(name)
        if path not in found:
            hidden = [each for each, _ in hidden_in(path, facts.layout.root)]
            found[path] = folder("code", path, without=hidden)
    if facts.classes is not None:
        found[facts.classes] = folder("classes", facts.classes)
    for data in facts.data.values():
        found[data.content] = folder("data", data.content, digest=data.lock.sha256)
    return found


def _refuse_leftovers(prepared: Prepared, host: Host) -> None:
    """Refuse what an earlier run without hosts has left here: no agent would know of it."""
    left = find_leftovers(prepared.engine.api, prepared.layout, host.name)
    if left:
        raise EnvironmentFault(
            f"an earlier run without --hosts has left containers here ({len(left)})",
            "run it again without --hosts to take them over, or `evalset clean` to remove them",
        )
