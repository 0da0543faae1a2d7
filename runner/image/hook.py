"""Changes a few things inside the eval image, when the modules that they are in are imported.

A `.pth` file of the image's virtual environment imports this module whenever Python starts there,
hence so little of it: nothing is touched that a program does not import itself.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib.machinery import PathFinder

TYPE_CHECKING = False  # typing's own would cost each Python start 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import IO, Any

# Where the gateway is reached, in a container that has one.
GATEWAY = "http://127.0.0.1:8470/"

# A program that teaches SafeLoader tags of its own keeps the loader that it taught.
TAUGHT = frozenset(
    {
        "yaml_constructors",
        "yaml_multi_constructors",
        "yaml_implicit_resolvers",
        "yaml_path_resolvers",
    }
)


def quicken_yaml(yaml: ModuleType) -> None:
    """Let `yaml.safe_load` use libyaml; leave a PyYAML that was built without it as it is.

    Each `oaieval` reads 460 registry files. PyYAML's loader in pure Python spends 0.4 s of CPU on
    them, a third of the whole start; the same loader on libyaml spends 0.1 s, with the same result.
    """
    if not hasattr(yaml, "CSafeLoader"):
        return

    def safe_load(stream: str | bytes | IO[Any]) -> Any:  # noqa: ANN401 - as PyYAML's own
        return yaml.load(stream, yaml.SafeLoader if _is_taught(yaml) else yaml.CSafeLoader)

    yaml.safe_load = safe_load  # type: ignore[attr-defined] # a module's names are not known


def _is_taught(yaml: ModuleType | None) -> bool:
    return yaml is not None and not TAUGHT.isdisjoint(vars(yaml.SafeLoader))


def mend_token_usage(oaieval: ModuleType) -> None:
    """Let `oaieval` add up token counts that an API reports in nested groups.

    As released, evals 3.0.1 adds a number to such a group when every answer has been paid for, and
    crashes: with OpenAI's API of today no eval succeeds
    (https://github.com/openai/evals/issues/1582).
    """

    def add_token_usage_to_result(result: dict[str, Any], recorder: Any) -> None:  # noqa: ANN401 - evals' own
        totals: dict[str, int] = {}
        for event in recorder.get_events("sampling"):
            for name, count in _counts(event.data.get("usage")):
                totals[name] = totals.get(name, 0) + count
        for name, total in totals.items():
            result.setdefault(f"usage_{name}", total)

    oaieval.add_token_usage_to_result = add_token_usage_to_result  # type: ignore[attr-defined] # as above


def _counts(usage: Any, prefix: str = "") -> Iterator[tuple[str, int]]:  # noqa: ANN401 - an API's
    """The numbers in a report of usage; a group's name comes before its numbers' names."""
    try:
        fields = dict(usage or ()).items()  # pydantic's models and dicts alike
    except (TypeError, ValueError):
        return
    for name, value in fields:
        if isinstance(value, int) and not isinstance(value, bool):
            yield f"{prefix}{name}", value
        elif not isinstance(value, str):
            yield from _counts(value, f"{prefix}{name}_")


def seed_random_numbers(oaieval: ModuleType) -> None:
    """Let `oaieval` draw the same global random numbers in each run.

    Else some evals ask something else each time, and no recorded answer fits. The seed is the
    variable EVALS_SEED, or else the number of `--seed`. NumPy gets it when it is imported.
    """
    run = oaieval.run

    def seeded_run(args: Any, *rest: Any, **named: Any) -> Any:  # noqa: ANN401 - evals' own
        import random  # noqa: PLC0415 - not every Python that starts here needs it

        text = os.environ.get("EVALS_SEED") or str(args.seed)
        try:
            seed = int(text)
        except ValueError:
            sys.exit(f"oaieval: EVALS_SEED must be a whole number, not {text!r}")
        random.seed(seed)
        CHANGES["numpy.random"] = lambda numpy_random: numpy_random.seed(seed % 2**32)
        if "numpy.random" in sys.modules:
            CHANGES["numpy.random"](sys.modules["numpy.random"])
        return run(args, *rest, **named)

    oaieval.run = seeded_run  # type: ignore[attr-defined] # as above


def change_oaieval(oaieval: ModuleType) -> None:
    """Mend `oaieval`, let its random numbers repeat, and let its end be quick.

    What importing it made is never garbage, yet Python looks through all of it for garbage when it
    ends, for 0.08 s. What the eval itself makes is still looked at.
    """
    give_submodules()
    mend_token_usage(oaieval)
    seed_random_numbers(oaieval)
    gc.freeze()


def keep_clients(module: ModuleType, name: str = "OpenAI") -> None:
    """Let a module of evals keep the API's clients, where it would make a new one for each call.

    A new one reads all certificates, which takes 40 ms of CPU. One is kept for each thread: a
    client that all threads share looks through everybody's connections at each request, and may
    close one that is in use (https://github.com/encode/httpcore/issues/1110).

    Args:
        module: its global variable is replaced.
        name: of that variable, the client's class.
    """
    import threading  # noqa: PLC0415 - not every Python that starts here needs it

    make = getattr(module, name)
    sdk = sys.modules[make.__module__.partition(".")[0]]
    httpx = sys.modules[sdk.DefaultHttpxClient.__base__.__module__.partition(".")[0]]
    of_thread = threading.local()
    lock = threading.Lock()
    certificates: list[Any] = []

    def http_client() -> Any:  # noqa: ANN401 - httpx's own
        with lock:
            if not certificates:
                certificates.append(httpx.create_ssl_context())
        return sdk.DefaultHttpxClient(verify=certificates[0])

    def client(**settings: Any) -> Any:  # noqa: ANN401 - the API's own
        # What else a new client would depend on; a forked process has no connections of its own.
        world = os.getpid(), dict(os.environ)
        kept = vars(of_thread).setdefault("kept", {})
        key = tuple(sorted(settings.items()))
        if key not in kept or kept[key][0] != world:
            kept[key] = world, make(http_client=http_client(), **settings)
        return kept[key][1]

    setattr(module, name, client)


def change_anthropic(solver: ModuleType) -> None:
    """Keep the clients of the solver for Anthropic, and let it write messages.

    It makes them of a class that has become a union of many in the SDK, and crashes.
    """
    keep_clients(solver, "Anthropic")
    solver.ContentBlock = sys.modules["anthropic.types"].TextBlockParam  # type: ignore[attr-defined] # as above


def tell_the_gateway(base_client: ModuleType) -> None:
    """Let requests to the gateway say which sample they are of, and wait for as long as it takes.

    Requests to anywhere else stay as they are. The gateway may hold a request until it is its turn,
    longer than the 10 minutes after which the SDK gives up. A limit that a program sets is kept.
    """
    build = base_client.BaseClient._build_request  # noqa: SLF001 - used by all its clients
    limits = base_client.DEFAULT_TIMEOUT.as_dict()

    def build_request(*args: Any, **named: Any) -> Any:  # noqa: ANN401 - the API's own
        request = build(*args, **named)
        if str(request.url).startswith(GATEWAY):
            if request.extensions.get("timeout") == limits:
                request.extensions["timeout"] = dict.fromkeys(limits)
            if sample := _current_sample():
                request.headers["x-evalset-sample"] = sample
        return request

    base_client.BaseClient._build_request = build_request  # noqa: SLF001 - as above


def _current_sample() -> str:
    """The id of the sample that this thread evaluates, as a header can hold it; or nothing."""
    record = sys.modules.get("evals.record")
    recorder = record and record.default_recorder()
    sample = recorder and recorder.current_sample_id()
    if not sample:
        return ""
    from urllib.parse import quote  # noqa: PLC0415 - as above

    return quote(str(sample))


def move_together(together_solver: ModuleType) -> None:
    """Let the solver for Together ask the address in TOGETHER_BASE_URL, if there is one."""
    solver = together_solver.TogetherSolver
    fixed = solver._api_base.fget  # noqa: SLF001 - there is no other way in

    def address(self: Any) -> str:  # noqa: ANN401 - evals' own
        return os.environ.get("TOGETHER_BASE_URL") or fixed(self)

    solver._api_base = property(address)  # noqa: SLF001 - as above


def name_dummy(api: ModuleType) -> None:
    """Let `dummy` say what model it is, as schelling_point asks."""
    api.DummyCompletionFn.model = "dummy"


def name_owners(load: ModuleType) -> None:
    """Let `datasets` load what evals name without an owner, as `hellaswag`, by its name of today.

    The hub leads from such a name to the one with an owner; `datasets` refuses to ask for it.
    """
    load_dataset = load.load_dataset

    def owned(path: Any) -> Any:  # noqa: ANN401 - datasets' own
        is_plain = isinstance(path, str) and path and "/" not in path
        if not is_plain or path in load._PACKAGED_DATASETS_MODULES or os.path.exists(path):  # noqa: PTH110, SLF001 - as datasets itself does
            return path
        if os.environ.get("HF_HUB_OFFLINE") or os.environ.get("HF_DATASETS_OFFLINE"):
            return path
        try:
            from huggingface_hub import HfApi  # noqa: PLC0415 - not every Python needs it

            return HfApi().dataset_info(path, timeout=30).id
        except Exception:  # noqa: BLE001 - datasets says it better
            return path

    def load_owned(path: Any, *args: Any, **named: Any) -> Any:  # noqa: ANN401 - as above
        return load_dataset(owned(path), *args, **named)

    load.load_dataset = load_owned  # type: ignore[attr-defined] # as above


def keep_encodings(load: ModuleType) -> None:
    """Let tiktoken find the encodings that the image has, and fetch the others as ever.

    Its own cache does not do: it must be writable, or no other encoding can be fetched.
    """
    read = load.read_file_cached

    def read_file_cached(blobpath: str, expected_hash: str | None = None) -> Any:  # noqa: ANN401 - bytes
        try:
            with open(f"{sys.prefix}/share/tiktoken/{os.path.basename(blobpath)}", "rb") as file:  # noqa: PTH119, PTH123 - as above
                content = file.read()
        except OSError:
            return read(blobpath, expected_hash)
        # by its hash tiktoken knows it, wherever it is from
        if expected_hash and load.check_hash(content, expected_hash):
            return content
        return read(blobpath, expected_hash)

    load.read_file_cached = read_file_cached  # type: ignore[attr-defined] # as above


def copy_benchmarks(environment: ModuleType) -> None:
    """Let hr-ml-agent-bench keep what it trains and fetches, in a copy of its benchmarks.

    It writes beside its scripts, where nothing can be written in a container.
    """
    package, name = os.path.split(str(environment.__file__))
    if os.access(package, os.W_OK):
        return
    import shutil  # noqa: PLC0415 - as above
    from importlib import import_module  # noqa: PLC0415 - as above
    from tempfile import mkdtemp  # noqa: PLC0415 - as above

    place = mkdtemp(prefix="hr-ml-agent-bench-")
    shutil.copytree(f"{package}/benchmarks", f"{place}/benchmarks")
    benchmarks = import_module(f"{environment.__package__}.benchmarks")
    benchmarks.__path__ = [f"{place}/benchmarks"]
    environment.__file__ = f"{place}/{name}"  # beside which it looks for the benchmarks


def use_parsed_registry(registry: ModuleType) -> None:
    """Let `Registry` take the entries of evals' own registry as they were parsed for the image.

    Only those of files that are still the same; all others are read by evals itself, and so are all
    if registry.py is another one, or if a program has taught YAML's loader.
    """
    read = getattr(registry.Registry, "_load_directory", None)
    if read is None:
        return
    package, _ = os.path.split(str(registry.__file__))

    def load_directory(self: Any, path: Any) -> Iterator[tuple[Any, Any, Any]]:  # noqa: ANN401 - evals' own
        folder, kind = os.path.split(path)
        parsed = _prepared(kind) if folder == f"{package}/registry" else {}
        if _is_taught(sys.modules.get("yaml")) or not _is_same(f"{package}/registry.py", parsed):
            yield from read(self, path)
            return
        for file in path.glob("*.yaml"):
            entries = _is_same(str(file), parsed) and parsed[str(file)][1]
            if entries:
                for name, spec in entries.items():
                    yield name, file, spec
            else:
                yield from self._load_file(file)

    registry.Registry._load_directory = load_directory  # noqa: SLF001 - there is no other way in


def _is_same(path: str, parsed: dict[str, Any]) -> bool:
    """Whether a file is as it was when the image was built."""
    if path not in parsed:
        return False
    status = os.stat(path)  # noqa: PTH116 - an oaieval may do this before it imports pathlib
    return bool(parsed[path][0] == (status.st_size, int(status.st_mtime)))


def _prepared(name: str) -> dict[str, Any]:
    """What prepare.py has left under this name, made anew; nothing if it has not."""
    import marshal  # noqa: PLC0415 - as above

    folder, _ = os.path.split(__file__)
    try:
        with open(f"{folder}/evalset_prepared/{name}", "rb") as file:  # noqa: PTH123 - as above
            return dict(marshal.loads(file.read()))  # noqa: S302 - the image's own
    except (OSError, ValueError, EOFError, TypeError):
        return {}


def give_submodules() -> None:
    """Give packages the submodules that `oaieval` used to import, when they are asked for.

    A program may use `urllib.parse` although it imports `urllib` alone, because something else has
    imported the submodule. It still may.
    """
    from functools import partial  # noqa: PLC0415 - not every Python that starts here needs it
    from importlib import import_module  # noqa: PLC0415 - as above

    def give(names: frozenset[str], package: ModuleType) -> None:
        before = vars(package).get("__getattr__")

        def attribute(name: str) -> Any:  # noqa: ANN401 - as before
            if name in names:
                return import_module(f"{package.__name__}.{name}")
            if before:
                return before(name)
            raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")

        package.__getattr__ = attribute  # type: ignore[method-assign] # a module has its own

    for package, names in _prepared("submodules").items():
        change = partial(give, frozenset(names))
        if package in sys.modules:
            change(sys.modules[package])
        else:
            CHANGES.setdefault(package, change)


CHANGES: dict[str, Callable[[ModuleType], None]] = {
    "yaml": quicken_yaml,
    "openai._base_client": tell_the_gateway,
    "anthropic._base_client": tell_the_gateway,
    "datasets.load": name_owners,
    "tiktoken.load": keep_encodings,
    "evals.api": name_dummy,
    "evals.registry": use_parsed_registry,
    "evals.cli.oaieval": change_oaieval,
    "evals.completion_fns.openai": keep_clients,
    "evals.elsuite.hr_ml_agent_bench.environment": copy_benchmarks,
    "evals.elsuite.make_me_say.utils": keep_clients,
    "evals.solvers.providers.anthropic.anthropic_solver": change_anthropic,
    "evals.solvers.providers.together.together_solver": move_together,
}


class Finder:
    """Finds the modules above where Python would, and changes them once they are imported."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Python's own spec for a module that is changed; None for all else."""
        change = CHANGES.get(name)
        spec = PathFinder.find_spec(name, path, target) if change else None
        if change and spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                change(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign] # for this one module
        return spec


sys.meta_path.insert(0, Finder)
# Importing openai/evals makes over 100,000 objects and hardly any garbage: looking for it after
# every 700 is a twentieth of an eval's start.
gc.set_threshold(50_000)
