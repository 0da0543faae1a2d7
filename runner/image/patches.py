"""What is changed in modules of other packages in the eval image, so that evals run there.

hook.py imports this module when something imports one that is changed, and calls its function then.
So each function imports what it needs by itself.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing's own would cost 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any

# Where the gateway is reached, in a container that has one.
GATEWAY = "http://127.0.0.1:8470/"


def patch_token_usage(oaieval: ModuleType) -> None:
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

    oaieval.add_token_usage_to_result = add_token_usage_to_result  # type: ignore[attr-defined] # a module's names are not known


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


def seed_random_numbers(
    oaieval: ModuleType, when_imported: Callable[[str, Callable[[ModuleType], None]], None]
) -> None:
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
        when_imported("numpy.random", lambda numpy_random: numpy_random.seed(seed % 2**32))
        return run(args, *rest, **named)

    oaieval.run = seeded_run  # type: ignore[attr-defined] # as above


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


def patch_anthropic(solver: ModuleType) -> None:
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


def patch_together(together_solver: ModuleType) -> None:
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
