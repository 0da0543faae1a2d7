import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.endpoint import Endpoint, answering, upstream

pytestmark = pytest.mark.upstream

SAMPLES = 30
THREADS = 3

EVAL = """
hooked:
  id: hooked.test.v0
  metrics: [accuracy]
hooked.test.v0:
  class: evals.elsuite.basic.match:Match
  args:
    samples_jsonl: hooked.jsonl
"""

OAIEVAL = "from evals.cli.oaieval import main; main()"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """An endpoint that answers."""
    with answering() as endpoint:
        yield endpoint


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A registry with an eval of some samples."""
    registry = tmp_path / "registry"
    for folder in "evals", "data":
        (registry / folder).mkdir(parents=True)
    (registry / "evals/hooked.yaml").write_text(EVAL)
    samples = [{"input": f"Is it so? {'!' * it}", "ideal": "yes"} for it in range(SAMPLES)]
    (registry / "data/hooked.jsonl").write_text("\n".join(map(json.dumps, samples)))
    return registry


def _run(registry: Path, *, model: str, hook: str, **variables: str) -> list[dict[str, object]]:
    """What `oaieval` logs; `hook` is code that runs before it."""
    folder = registry.parent
    done = upstream(
        f"{hook}\n{OAIEVAL}",
        model,
        "hooked",
        "--registry_path=registry",
        "--record_path=log.jsonl",
        cwd=folder,
        **variables,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def _without_times(log: list[dict[str, object]]) -> list[dict[str, object]]:
    return [
        {name: value for name, value in line.items() if name not in {"run_id", "created_at"}}
        for line in log
    ]


def _report(log: list[dict[str, object]]) -> dict[str, object]:
    (report,) = (line["final_report"] for line in log if "final_report" in line)
    assert isinstance(report, dict)
    return report


@pytest.mark.parametrize("model", ["dummy", "gpt-3.5-turbo"])
def test_a_log_is_the_same_as_without_the_hook(
    registry: Path, endpoint: Endpoint, model: str
) -> None:
    """Only ids and times differ, what is random, and counts of tokens that nobody has counted."""
    settings = {"OPENAI_BASE_URL": endpoint.address, "EVALS_SEQUENTIAL": "1"}
    logs = []
    for hook in "import hook", "":
        log = _without_times(_run(registry, model=model, hook=hook, **settings))
        spec = log[0]["spec"]
        assert isinstance(spec, dict)
        del spec["run_id"], spec["created_at"]
        for name in (
            "boostrap_std",
            "usage_completion_tokens_details",
            "usage_prompt_tokens_details",
        ):
            _report(log).pop(name, None)
        logs.append(log)
    asked = 0 if model == "dummy" else SAMPLES
    assert len(logs[0]) == 2 + SAMPLES + asked
    assert logs[0] == logs[1]
    assert len(endpoint.requests) == 2 * asked


def test_each_thread_keeps_its_connection(registry: Path, endpoint: Endpoint) -> None:
    """No thread makes a second client."""
    settings = {"OPENAI_BASE_URL": endpoint.address, "EVALS_THREADS": str(THREADS)}
    _run(registry, model="gpt-3.5-turbo", hook="import hook", **settings)
    assert len(endpoint.requests) == SAMPLES
    assert len({it.connection for it in endpoint.requests}) <= THREADS


def test_the_gateway_is_told_the_sample(registry: Path, endpoint: Endpoint) -> None:
    """Each request says of which sample it is, in whatever thread it is made."""
    log = _run(
        registry,
        model="gpt-3.5-turbo",
        hook=f"import hook, patches; patches.GATEWAY = {endpoint.address!r}",
        OPENAI_BASE_URL=endpoint.address,
        EVALS_THREADS=str(THREADS),
    )
    told = sorted(it.headers["x-evalset-sample"] for it in endpoint.requests)
    assert told == sorted(str(it["sample_id"]) for it in log if it.get("type") == "sampling")
    assert len(set(told)) == SAMPLES


def test_nobody_else_is_told_the_sample(registry: Path, endpoint: Endpoint) -> None:
    """A provider gets the headers that it gets without the hook, and no other."""
    settings = {"OPENAI_BASE_URL": endpoint.address, "EVALS_SEQUENTIAL": "1"}
    _run(registry, model="gpt-3.5-turbo", hook="import hook", **settings)
    _run(registry, model="gpt-3.5-turbo", hook="", **settings)
    assert len(endpoint.requests) == 2 * SAMPLES
    for hooked, bare in zip(endpoint.requests[:SAMPLES], endpoint.requests[SAMPLES:], strict=True):
        assert hooked.headers == bare.headers


def test_random_numbers_repeat(registry: Path, endpoint: Endpoint) -> None:
    """Two runs have the same bootstrap figure; another seed gives another one."""
    settings = {"OPENAI_BASE_URL": endpoint.address, "EVALS_SEQUENTIAL": "1"}
    figures = []
    for seed in {}, {}, {"EVALS_SEED": "7"}:
        log = _run(registry, model="gpt-3.5-turbo", hook="import hook", **settings, **seed)
        figures.append(_report(log)["boostrap_std"])
    assert figures[0] == figures[1]
    assert figures[0] != figures[2]


def test_a_seed_that_is_no_number_ends_oaieval(registry: Path) -> None:
    """It is named, and nothing is evaluated."""
    done = upstream(
        f"import hook\n{OAIEVAL}", "dummy", "hooked", cwd=registry.parent, EVALS_SEED="many"
    )
    assert done.returncode == 1
    assert done.stderr.endswith("EVALS_SEED must be a whole number, not 'many'\n")


@pytest.mark.parametrize("early", [True, False])
def test_numpys_random_numbers_repeat(*, early: bool) -> None:
    """NumPy gets the seed, whether it is imported before oaieval runs or after."""
    code = f"""
        import hook, patches, types
        if {early}: import numpy.random
        oaieval = types.SimpleNamespace(run=lambda args: "ran")
        patches.seed_random_numbers(oaieval, hook.when_imported)
        assert oaieval.run(types.SimpleNamespace(seed=-5)) == "ran"
        import numpy, random
        print(numpy.random.random(), random.random())
    """
    first, second = upstream(code), upstream(code)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout


def test_a_client_is_kept_for_a_thread_and_its_settings() -> None:
    """Another thread, other settings, a changed variable and a forked process get their own."""
    code = """
        import hook, os, threading
        from evals.completion_fns.openai import OpenAI
        first = OpenAI(api_key="a", base_url=None)
        assert OpenAI(base_url=None, api_key="a") is first
        assert OpenAI(api_key="b", base_url=None) is not first
        others = []
        thread = threading.Thread(target=lambda: others.append(OpenAI(api_key="a", base_url=None)))
        thread.start(); thread.join()
        assert others[0] is not first
        if (child := os.fork()) == 0:
            os._exit(OpenAI(api_key="a", base_url=None) is first)
        assert os.waitpid(child, 0)[1] == 0
        assert OpenAI(api_key="a", base_url=None) is first
        os.environ["OPENAI_BASE_URL"] = "http://localhost:1/v1"
        changed = OpenAI(api_key="a", base_url=None)
        assert changed is not first and changed.base_url.port == 1
    """
    done = upstream(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_kept_client_is_as_a_new_one() -> None:
    """Time limits, retries, redirects and connections are the SDK's own."""
    code = """
        import hook, openai
        from evals.completion_fns.openai import OpenAI
        assert OpenAI is not openai.OpenAI
        for make in OpenAI, openai.OpenAI:
            it = make(api_key="a", base_url=None)
            http = it._client
            pool = http._transport._pool
            print(it.timeout, http.timeout, it.max_retries, http.follow_redirects, it.base_url,
                  pool._max_connections, pool._max_keepalive_connections, pool._keepalive_expiry,
                  sorted((k, v) for k, v in it.default_headers.items() if isinstance(v, str)))
    """
    done = upstream(code)
    assert done.returncode == 0, done.stderr
    kept, new = done.stdout.splitlines()
    assert kept == new


def test_threads_share_the_certificates() -> None:
    """They are read once, however many clients there are."""
    code = """
        import hook, httpx, threading
        from evals.completion_fns.openai import OpenAI
        read, create = [], httpx.create_ssl_context
        httpx.create_ssl_context = lambda: read.append(1) or create()
        clients = []
        threads = [threading.Thread(target=lambda: clients.append(OpenAI())) for _ in range(8)]
        for it in threads: it.start()
        for it in threads: it.join()
        contexts = {it._client._transport._pool._ssl_context for it in clients}
        print(len(clients), len(read), len(contexts))
    """
    done = upstream(code)
    assert done.stdout.split() == ["8", "1", "1"], done.stderr


LIMITS = """
    import hook, patches, asyncio, httpx, openai
    def note(request):
        print(request.extensions["timeout"]["read"])
        return httpx.Response(200, json={"object": "list", "data": []})
    patches.GATEWAY = "http://gateway/"
    transport = httpx.MockTransport(note)
    def asked(address, **settings):
        http = openai.DefaultHttpxClient(transport=transport)
        openai.OpenAI(base_url=address, http_client=http, **settings).models.list()
    asked("http://gateway/openai/v1")
    asked("http://gateway/openai/v1", timeout=7)
    asked("http://gateway.else/v1")
    http = openai.DefaultAsyncHttpxClient(transport=transport)
    client = openai.AsyncOpenAI(base_url="http://gateway/openai/v1", http_client=http)
    async def ask(): await client.models.list()
    asyncio.run(ask())
"""


def test_a_request_to_the_gateway_may_take_long() -> None:
    """The SDK's own limit does not count there; a limit of the program's does."""
    done = upstream(LIMITS)
    assert done.stdout.split() == ["None", "7", "600", "None"], done.stderr


def test_a_samples_name_fits_into_a_header() -> None:
    """Whatever an eval is called, its request can be sent."""
    code = """
        import hook, patches, httpx, openai
        from evals.base import RunSpec
        from evals.record import DummyRecorder
        patches.GATEWAY = "http://gateway/"
        def note(request):
            print(request.headers.get("x-evalset-sample"))
            return httpx.Response(200, json={"object": "list", "data": []})
        http = openai.DefaultHttpxClient(transport=httpx.MockTransport(note))
        client = openai.OpenAI(base_url="http://gateway/openai/v1", http_client=http)
        recorder = DummyRecorder(RunSpec([], "a.b", "a", "b", {}, "me"), log=False)
        client.models.list()
        with recorder.as_default_recorder("naïve eval\\r\\nx: y.test.3"): client.models.list()
        with recorder.as_default_recorder("good-name.test.3"): client.models.list()
    """
    done = upstream(code)
    assert done.stdout.split() == [
        "None",
        "na%C3%AFve%20eval%0D%0Ax%3A%20y.test.3",
        "good-name.test.3",
    ], done.stderr


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("", "https://api.together.xyz/v1/"),
        ("http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1/"),
    ],
)
def test_together_can_be_elsewhere(variable: str, address: str) -> None:
    """The solver asks the address that the variable has, or else its own."""
    code = """
        import hook
        from evals.completion_fns import openai
        from evals.solvers.providers.together.together_solver import TogetherSolver
        solver = TogetherSolver(completion_fn_options={"model": "meta-llama/Llama-2-13b-chat-hf"})
        function = solver.completion_fn
        print(openai.OpenAI(api_key=function.api_key, base_url=function.api_base).base_url)
    """
    done = upstream(code, TOGETHER_API_KEY="none", TOGETHER_BASE_URL=variable)
    assert done.stdout.strip() == address, done.stderr
