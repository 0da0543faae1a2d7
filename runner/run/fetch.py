import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runner.data import paths
from runner.data.cache import DataCache, keys_of, remove
from runner.data.lock import ELSEWHERE, DataLock, lock_of, parse_locks
from runner.engine import docker_py
from runner.engine.engine import as_environment_fault
from runner.errors import EnvironmentFault, LockHeld, UsageError
from runner.files import make_folder, named, read_bytes
from runner.host import PLACEHOLDER_KEY, Host, from_host, read_env_file
from runner.image.image import look_up_image
from runner.model import Job
from runner.options import EVAL_NETWORK, RunOptions
from runner.plan.pins import RunFile
from runner.records.run_lock import run_lock
from runner.records.state import RunState
from runner.report.text import size
from runner.run.containers import facts_of, with_locks
from runner.run.fetch_containers import FetchContainers, OneEvalFails, make_ready
from runner.run.prepare import PROXIES, Prepared, planned, prepare

if TYPE_CHECKING:
    from runner.report.bars import FetchDisplay

# Variables that containers get while they fetch, if they are set; none is a secret.
USUAL = (*PROXIES, *(name.upper() for name in PROXIES), "no_proxy", "NO_PROXY", "HF_ENDPOINT")

# The address of every model: an eval that asks it has loaded its data.
_MODEL = "http://model.invalid/v1"
_NO_MODEL = {
    "OPENAI_API_KEY": PLACEHOLDER_KEY,
    "OPENAI_BASE_URL": _MODEL,
    "ANTHROPIC_API_KEY": PLACEHOLDER_KEY,
    "ANTHROPIC_BASE_URL": _MODEL,
    "TOGETHER_API_KEY": PLACEHOLDER_KEY,
    "TOGETHER_BASE_URL": _MODEL,
}


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one eval's data.

    Attributes:
        lock: what they are; None if they could not be fetched.
        new: whether they were fetched just now.
        problem: why they could not be fetched, and what to do.
    """

    eval: str
    lock: DataLock | None = None
    new: bool = False
    problem: str = ""

    @property
    def line(self) -> str:
        """The same for people."""
        lock = self.lock
        if lock is None:
            return f"error: {self.problem}"
        if not lock.files:
            return f"no data  {self.eval} needs none"
        how = "fetched" if self.new else "is here"
        return f"{how}  {self.eval}  ({size(lock.size)}, {lock.sha256[:12]}){lock.commits}"


def fetch(
    options: RunOptions, host: Host, display: "FetchDisplay", *, refresh: bool = False
) -> list[Fetched]:
    """Fetch the data of the evals of a set into the cache, with a container for each eval.

    Data that the run in the progress directory is pinned to are fetched at that revision, and
    have to be the same.

    Args:
        options: of the run that will use them; only variables that `env` names are passed in.
        refresh: whether to fetch everything again, whatever is pinned.

    Raises:
        RunnerError: nothing can be fetched at all: there is no engine, no hub or no room.
    """
    prepared = _prepared(options, host)
    cache = DataCache(host.cache)
    make_folder(cache.root, option=ELSEWHERE)
    with alone(cache):
        return _Fetch(prepared, host, cache, display, refresh=refresh).all()


def _prepared(options: RunOptions, host: Host) -> Prepared:
    """A run of the same evals with only the variables that the user named; rules give none."""
    named_ = {name: from_host(host.environ, name) for name in options.env}
    if options.env_file:
        named_ |= read_env_file(options.env_file, host.environ)
    usual = {name: host.environ[name] for name in USUAL if name in host.environ}
    options = msgspec.structs.replace(options, gateway=False, env=(), env_file=None)
    prepared = prepare(options, msgspec.structs.replace(host, environ={}), with_data=False)
    rules = tuple(msgspec.structs.replace(rule, env=()) for rule in prepared.rules)
    environment = {**usual, **named_, **_NO_MODEL}
    return msgspec.structs.replace(prepared, rules=rules, environment=environment, data={})


@contextlib.contextmanager
def alone(cache: DataCache) -> Iterator[None]:
    """Let one process at a time change the cache.

    Raises:
        LockHeld: another process does.
    """
    try:
        with run_lock(cache.fetch_lock):
            yield
    except LockHeld as error:
        raise LockHeld(
            f"another `evalset data` command works in {cache.root}", "wait for it to end"
        ) from error


def require_unused(api: docker_py.Api, folder: Path) -> None:
    """Refuse to change data that a container is using.

    Raises:
        EnvironmentFault: one is.
    """
    with as_environment_fault():
        listed = api.containers()
    places = (Path(each.get("Source", "")) for about in listed for each in about["Mounts"])
    if any(place_.is_relative_to(folder) for place_ in places):
        raise EnvironmentFault(f"a container uses the data in {folder}", "wait for its run to end")


class _Fetch:
    """One fetch for all evals of a set; the caller holds the cache's lock."""

    def __init__(
        self,
        prepared: Prepared,
        host: Host,
        cache: DataCache,
        display: "FetchDisplay",
        *,
        refresh: bool,
    ) -> None:
        self._prepared = prepared
        self._cache = cache
        self._display = display
        self._refresh = refresh
        layout, options = prepared.layout, prepared.options
        plan = planned(prepared, RunState(model=layout.model, eval_set=layout.eval_set))
        self._jobs = plan.jobs
        evals = [job.eval for job in plan.jobs]
        self._keys = keys_of(evals, prepared.own, options.passed_through)
        before = None if refresh else RunState.from_directory(layout).run
        self._pinned = _pinned(prepared, before, self._keys)
        prepared = with_locks(prepared, plan, before, host, tell=_say_nothing)
        self._facts = facts_of(prepared, plan, host, tell=_say_nothing)
        self._containers = FetchContainers(
            prepared.engine.api, self._facts, cache.root, self._pinned, display.has
        )

    def all(self) -> list[Fetched]:
        """Fetch the data of all evals, some at the same time."""
        self._containers.remove_leftovers()
        prepared = self._prepared
        self._display.begin(len(self._jobs))
        found = {job.eval: self._in_cache(job.eval) for job in self._jobs}
        for fetched in filter(None, found.values()):
            self._display.ended(fetched.line)
        todo = [job for job in self._jobs if found[job.eval] is None]
        if any(job.settings.network == EVAL_NETWORK for job in todo):
            prepared.engine.make_eval_network()
        pool = ThreadPoolExecutor(prepared.options.jobs or self._facts.cpus)
        try:
            for future in as_completed([pool.submit(self._fetch_one, job) for job in todo]):
                fetched = future.result()
                found[fetched.eval] = fetched
                self._display.ended(fetched.line)
        except BaseException:
            self._containers.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return [each for job in self._jobs if (each := found[job.eval])]

    def _in_cache(self, name: str) -> Fetched | None:
        """The data of an eval in the cache, if they are intact and not others than those pinned."""
        if self._refresh:
            return None
        data = self._cache.intact(name, self._keys[name])
        if data is None or self._difference(data.lock):
            return None
        return Fetched(eval=name, lock=data.lock)

    def _fetch_one(self, job: Job) -> Fetched:
        try:
            return Fetched(eval=job.eval, lock=self._fetched(job), new=True)
        except OneEvalFails as error:
            return Fetched(eval=job.eval, problem=str(error))

    def _fetched(self, job: Job) -> DataLock:
        name, key = job.eval, self._keys[job.eval]
        unfinished = self._cache.unfinished(name, key)
        folder = unfinished / paths.OWN
        with named(unfinished, "write", option=ELSEWHERE):
            make_ready(unfinished)
        self._containers.run(job, unfinished)
        image = self._facts.image_of(job.settings)
        found = look_up_image(self._prepared.engine.api, image)
        image = (found and found.fingerprint) or image
        try:
            with named(folder, "read", option=ELSEWHERE):
                lock = lock_of(folder, name, key, image=image)
        except UsageError as error:
            remove(unfinished)
            raise OneEvalFails(error.what, error.cure) from error
        if difference := self._difference(lock):
            remove(unfinished)
            raise OneEvalFails(
                f"the data of {name} are not those that the run is pinned to: {difference}",
                "`--refresh` takes them as they are now, and the run then needs `--repin`",
            )
        require_unused(self._prepared.engine.api, self._cache.folder(name, key))
        self._cache.put(lock, folder)
        remove(unfinished)
        return lock

    def _difference(self, lock: DataLock) -> str:
        """How an eval's data differ from those that are pinned; empty if they do not."""
        pinned = self._pinned.get(lock.eval)
        if pinned is None or pinned.sha256 == lock.sha256:
            return ""
        for repository, branches in pinned.revisions.items():
            for branch, commit in branches.items():
                now = lock.revisions.get(repository, {}).get(branch)
                if now and now != commit:
                    return f"{branch} of {repository} is {now[:12]} now, and was {commit[:12]}"
        before = {file.path: file for file in pinned.files}
        now_ = {file.path: file for file in lock.files}
        differ = sorted(path for path in before.keys() | now_ if before.get(path) != now_.get(path))
        return f"{differ[0]} differs" if differ else "their hash differs"


def _pinned(
    prepared: Prepared, run: RunFile | None, keys: Mapping[str, str]
) -> dict[str, DataLock]:
    """The data that the run in the progress directory is pinned to, by eval."""
    hashes = set((run.data or {}).values()) if run else set()
    known = parse_locks(read_bytes(prepared.layout.data)).values()
    return {
        lock.eval: lock
        for lock in known
        if lock.sha256 in hashes and lock.key == keys.get(lock.eval)
    }


def _say_nothing(_: str) -> None:
    """The display shows the progress instead."""
