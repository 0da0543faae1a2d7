import ast
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.image.image import Image
from runner.image.put_off import MODULES

HERE = Path(__file__).parent
pytestmark = pytest.mark.docker

# What a user may have: an eval of a chat model with some samples, and a solver within a solver.
REGISTRY = {
    "evals/own.yaml": """
asked: {id: asked.test.v0, metrics: [accuracy]}
asked.test.v0:
  class: evals.elsuite.basic.match:Match
  args: {samples_jsonl: own.jsonl}
""",
    "solvers/own.yaml": """
thinking:
  class: evals.solvers.nested.cot_solver:CoTSolver
  args:
    persistent_memory: false
    cot_solver: {class: "evals.solvers.solver:DummySolver", args: {}}
    extract_solver: {class: "evals.solvers.solver:DummySolver", args: {}}
""",
    "data/own.jsonl": "".join(
        json.dumps({"input": f"Is it so? {'!' * it}", "ideal": "yes"}) + "\n" for it in range(12)
    ),
}

# Runs code twice: as in each container, and with neither hook nor prepared bytecode.
TWICE = """
import os, subprocess, sys, sysconfig
sys.path.insert(0, "/checkout/tests/image")
from endpoint import answering
code, *arguments = sys.argv[1:]
plain = f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\\n"
with answering() as endpoint:
    for number, options, begin in (0, [], ""), (1, ["-S"], plain):
        folder = f"/tmp/{number}"
        os.mkdir(folder)
        environ = {**os.environ, "OPENAI_BASE_URL": endpoint.address, "OPENAI_API_KEY": "none"}
        if begin:
            environ["PYTHONPYCACHEPREFIX"] = "/compiled"
        command = [sys.executable, *options, "-c", begin + code, *arguments]
        done = subprocess.run(command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True)
        print(done.returncode, len(endpoint.requests), flush=True)
        print(repr(done.stdout))
        log = f"{folder}/log.jsonl"
        print(repr(open(log).read() if os.path.exists(log) else ""))
"""

OAIEVAL = """
import random
from evals.cli.oaieval import main
random.seed(20220722)  # the hook's own seed
main()
"""


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        requests: that the endpoint had until then.
    """

    status: int
    requests: int
    printed: str
    log: str


Twice = Callable[..., tuple[Outcome, Outcome]]


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A user's registry."""
    for name, content in REGISTRY.items():
        path = tmp_path / "registry" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "registry"


def _in_image(image: Image, *options: str, command: list[str]) -> str:
    """What a command prints in a container."""
    done = subprocess.run(
        ["docker", "run", "--rm", "--network=none", *options, image.id, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def twice(eval_image: Image, tmp_path_factory: pytest.TempPathFactory) -> Twice:
    """Runs code as it ends in the image, and as it ends with neither hook nor prepared bytecode."""
    options = [
        f"--user={os.getuid()}:{os.getgid()}",
        "--tmpfs=/tmp:mode=1777",
        f"--volume={HERE}:/checkout/tests/image:ro",
        f"--volume={tmp_path_factory.mktemp('compiled')}:/compiled",
    ]

    def run(code: str, *arguments: str, folder: Path | None = None) -> tuple[Outcome, Outcome]:
        mount = [f"--volume={folder}:/registry:ro"] if folder else []
        command = ["python", "-c", TWICE, code, *arguments]
        lines = _in_image(eval_image, *options, *mount, command=command).splitlines()
        prepared, plain = zip(lines[::3], lines[1::3], lines[2::3], strict=True)
        return _outcome(*prepared), _outcome(*plain)

    return run


def _outcome(head: str, printed: str, log: str) -> Outcome:
    status, requests = map(int, head.split())
    return Outcome(status, requests, ast.literal_eval(printed), ast.literal_eval(log))


def _comparable(log: str) -> list[dict[str, Any]]:
    """A log without times and ids, and without what the hook fixes."""
    lines = [json.loads(line) for line in log.splitlines()]
    for line in lines:
        for part in line, line.get("spec", {}):
            part.pop("run_id", None)
            part.pop("created_at", None)
        for name in list(line.get("final_report", {})):
            if name.startswith("usage_") and name.endswith("_details"):
                del line["final_report"][name]
    return lines


@pytest.mark.parametrize(
    ("model", "name", "requests"),
    [
        ("dummy", "test-match", 0),
        ("dummy", "test-fuzzy-match", 0),
        ("dummy", "test-includes", 0),
        ("dummy", "test-includes-ignore-case", 0),
        ("dummy", "joke-fruits", 0),  # graded by a model
        ("dummy", "theory_of_mind.socialiqa_light", 0),  # with a solver
        ("thinking", "asked", 0),
        ("gpt-3.5-turbo", "asked", 12),
        ("gpt-3.5-turbo", "joke-fruits", 20),
    ],
)
def test_a_log_is_the_same_as_of_evals_itself(
    twice: Twice, registry: Path, model: str, name: str, requests: int
) -> None:
    """Only times and ids differ, whatever the image has prepared; random figures are the same."""
    prepared, plain = twice(
        f"import os; os.environ['EVALS_SEQUENTIAL'] = '1'\n{OAIEVAL}",
        model,
        name,
        "--registry_path=/registry",
        "--record_path=log.jsonl",
        "--max_samples=12",
        folder=registry,
    )
    assert (prepared.status, plain.status) == (0, 0)
    assert len(_comparable(prepared.log)) > 2
    assert _comparable(prepared.log) == _comparable(plain.log)
    assert (prepared.requests, plain.requests) == (requests, 2 * requests)


def test_an_eval_that_asks_nobody_imports_nothing_large(twice: Twice) -> None:
    """Neither a client nor YAML, nor what other evals need: what that costs is in no log."""
    put_off = {"openai", "urllib3", "yaml"}
    large = put_off | {"datasets", "nltk", "pandas", "pyarrow", "scipy", "sklearn"}
    code = f"{OAIEVAL}\nimport sys; print(set({sorted(large)}) & set(sys.modules))"
    arguments = ("dummy", "test-match", "--record_path=log.jsonl")
    prepared, plain = twice(code, *arguments)
    assert prepared.printed == "set()\n"
    assert set(ast.literal_eval(plain.printed)) >= put_off


SURFACE = """
import evals.cli.oaieval, importlib, pathlib, sys
site = pathlib.Path(evals.__file__).parents[1]
paths = sorted(path for pattern in sys.argv[1:] for path in site.glob(pattern))
names = [".".join(path.relative_to(site).with_suffix("").parts) for path in paths]
names = [name.removesuffix(".__init__") for name in names if not name.endswith("_test")]
for name in names:
    module = importlib.import_module(name)
    for attribute in dir(module):
        value = getattr(module, attribute)
        if not attribute.startswith("__") and f"{name}.{attribute}" not in sys.modules:
            if type(value).__name__ == "StandIn":
                value = importlib.import_module(value.__name__)
            print(name, attribute, type(value).__name__,
                  getattr(value, "__module__", ""), getattr(value, "__qualname__", ""))
"""


def test_modules_have_all_their_names(twice: Twice) -> None:
    """Whoever lists a module's names gets what they are without preparation, submodules aside."""
    prepared, plain = twice(SURFACE, *MODULES)
    expected = plain.printed.splitlines()
    assert prepared.status == 0
    assert len(expected) > 2000
    assert set(expected) - set(prepared.printed.splitlines()) == set()


USES = """
import pickle, sys, typing
import evals.cli.oaieval
before = set(sys.modules)
import urllib, concurrent, email, http
print(urllib.request.Request, http.client.HTTPConnection, concurrent.futures.thread, email.parser)
import openai
print(openai.types.chat.ChatCompletion, openai.AssistantEventHandler, openai.resources.Audio)
print(openai.lib.streaming.AssistantEventHandler is openai.AssistantEventHandler)
from openai.types import *
from openai.types import Batch, chat
print(Batch is openai.types.Batch, chat is openai.types.chat, ImagesResponse)
usage = openai.types.CompletionUsage(completion_tokens=1, prompt_tokens=2, total_tokens=3)
print(pickle.loads(pickle.dumps(usage)) == usage, isinstance(usage, openai.BaseModel))
print(openai.types.chat.ChatCompletion.model_fields)
print(typing.get_type_hints(openai.types.chat.ChatCompletionUserMessageParam))
import blobfile, evals.data, evals.registry, evals.solvers.utils
print(typing.get_type_hints(evals.solvers.utils.maybe_wrap_with_solver))
print(typing.get_type_hints(evals.registry.Registry.get_eval))
print(typing.get_type_hints(evals.data.zstd_open), blobfile._common.urllib3.PoolManager)
print(typing.get_type_hints(blobfile._common.execute_request))
print(typing.get_type_hints(blobfile._common.PoolDirector.get_http_pool), blobfile._azure)
print(type(evals.registry.client).__name__, evals.registry.client.api_key)
print(pickle.loads(pickle.dumps(evals.Eval)) is evals.eval.Eval, evals.OpenAIChatCompletionFn)
print(hasattr(evals, "no_such_name"), hasattr(openai.types, "no_such_name"))
try: from evals import no_such_name
except ImportError as error: print(error.msg)
evals.record.requests = "mine"
print(evals.record.requests)
from unittest.mock import patch
with patch("evals.record.bf.BlobFile", "patched"):
    print(evals.record.bf.BlobFile, blobfile.BlobFile)
"""


def test_code_of_a_user_finds_all_that_was_put_off(twice: Twice) -> None:
    """Attributes, stars, pickles, type hints and mocks give what they give without preparation."""
    prepared, plain = twice(USES)
    assert plain.printed.count("\n") == 18
    assert prepared.printed == plain.printed


def test_a_key_that_is_missing_is_told_as_upstream_tells_it(twice: Twice) -> None:
    """The client is made at once where making it fails."""
    code = """if 1:
        import os
        del os.environ["OPENAI_API_KEY"]
        try: import evals.registry
        except Exception as error: print(type(error), error)
    """
    prepared, plain = twice(code)
    assert "OPENAI_API_KEY" in plain.printed
    assert prepared.printed == plain.printed


CHANGED = """
set -e
cd /opt/evals/lib/python3*/site-packages/evals
ask() { python -c "from evals.registry import Registry; import sys; r = Registry(); $1"; }
ask "print(r.get_eval('test-match').group, 'yaml' in sys.modules)"
sed -i s/test-match:/tost-match:/ registry/evals/test-basic.yaml  # of the same size
touch -d 2001-01-01 registry/evals/test-basic.yaml
ask "print(r.get_eval('tost-match').group, 'yaml' in sys.modules)"
printf 'new.a: {class: a:A}\n' > registry/evals/new.yaml
ask "print(r.get_eval('new.a').group)"
echo "def _default(): return 'changed'" >> record.py
ask "import evals.record; print(evals.record._default(), hasattr(evals.record, '__put_off__'))"
sed -i 's/yield name, path, spec/yield "x-" + name, path, spec/' registry.py
ask "print(r.get_eval('x-new.a').group)"
"""


def test_what_was_prepared_counts_for_the_same_files_alone(eval_image: Image) -> None:
    """An image built on this one may change the registry, or evals itself."""
    said = _in_image(eval_image, "--env=OPENAI_API_KEY=none", command=["sh", "-c", CHANGED])
    assert said.splitlines() == [
        "test-basic False",
        "test-basic True",
        "new",
        "changed False",
        "new",
    ]


def test_a_registry_of_a_user_is_read_as_upstream_reads_it(twice: Twice, registry: Path) -> None:
    """Entries that stand twice, reserved words and plain text end with upstream's words."""
    bad = {
        "twice": "test-match: {id: a.b}",
        "reserved": "a: {key: b}",
        "text": "a: b",
    }
    for name, content in bad.items():
        (registry / name / "evals").mkdir(parents=True)
        (registry / name / "evals/bad.yaml").write_text(content)
    code = """if 1:
        import sys
        from evals.registry import Registry
        for name in sys.argv[1:]:
            registry = Registry()
            registry.add_registry_paths([f"/registry/{name}"])
            try: registry.get_eval("test-match")
            except Exception as error: print(name, type(error).__name__, error)
    """
    prepared, plain = twice(code, *bad, folder=registry)
    assert all(f"\n{name} " in f"\n{plain.printed}" for name in bad)
    assert prepared.printed == plain.printed
