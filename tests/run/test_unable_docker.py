"""What a look into the real image finds before anything starts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.engine import docker_py
from runner.errors import UsageError
from runner.host import Host
from runner.image import look_inside as looking
from runner.options import RunOptions
from runner.plan.plan import Plan
from runner.registry.needs import Kind, Need
from runner.run import unable
from runner.run.prepare import Prepared, planned, prepare, state_of
from runner.run.unable import find_obstacles

pytestmark = pytest.mark.docker

MATCH = "evals.elsuite.basic.match:Match"
GOOD = {"class": MATCH, "args": {"samples_jsonl": "good.jsonl"}}

# Modules of a user's own, by name, as they misbehave when they are imported.
HOSTILE = {
    "good": "from evals.elsuite.basic.match import Match as It",
    "loud": "import os; print('{}'); os.write(1, b'{}'); from good import It",
    "raises": "raise KeyError('of its own')",
    "lacks": "import no_such_package",
    "leaves": "import sys; sys.exit(3)",
    "quits": "import os; os._exit(0)",
    "kills": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "hangs": "import time; time.sleep(1000)",
    "forks": "import os, time; os.fork() or time.sleep(1000); It = dict",
    "calls": "import socket; socket.create_connection(('192.0.2.1', 80), 3)",
    "hides": (
        "import socket\ntry: socket.getaddrinfo('example.org', 80)\n"
        "except OSError: raise LookupError('no data')"
    ),
    "writes": "open('/etc/x', 'w')",
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine of the test's own making, on which no image was looked into yet."""
    return Host(
        environ={"PYTHONPATH": "/registry/0/code"},
        home=tmp_path / "home",
        cache=tmp_path / "cache",
        name="here",
        user="65534:65534",
    )


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    """A run of the eval set `mine` of the registry folder `own`."""
    (tmp_path / "own").mkdir()
    return RunOptions(
        model="dummy",
        eval_set="mine",
        progress_dir=tmp_path / "progress",
        registry_paths=(str(tmp_path / "own"),),
        env=("PYTHONPATH",),
    )


def put(options: RunOptions, evals: Mapping[str, object], **files: str) -> Path:
    """Write a registry: one file for each eval, an eval set of all of them, and other files."""
    folder = Path(options.registry_paths[0])
    written = {f"evals/{name}.yaml": json.dumps({name: spec}) for name, spec in evals.items()}
    written["eval_sets/mine.yaml"] = json.dumps({"mine": {"evals": list(evals)}})
    written["data/good.jsonl"] = '{"input": "1", "ideal": "1"}\n'
    for name, text in (written | files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.parent.chmod(0o755)
    folder.parent.chmod(0o755)
    return folder


def fitted(options: RunOptions, host: Host) -> tuple[Prepared, Plan]:
    """A prepared run and its plan, without the evals that cannot run."""
    prepared = prepare(options, host)
    found = find_obstacles(prepared, planned(prepared, state_of(prepared)), host, tell=print)
    return found, planned(found, state_of(found))


def reasons(options: RunOptions, host: Host) -> dict[str, str]:
    """Why evals cannot run."""
    return {name: each.why for name, each in fitted(options, host)[0].obstacles.items()}


def test_each_eval_that_cannot_run_is_found_with_its_reason(
    options: RunOptions, host: Host
) -> None:
    """The others are to do; nobody but the image's own program is asked."""
    folder = put(
        options,
        {
            "good.dev.v0": GOOD,
            "torch.dev.v0": {"class": "evals.elsuite.hr_ml_agent_bench.eval:MLAgentBench"},
            "own.dev.v0": {"class": "my_package.evals:Mine"},
            "gone.dev.v0": {"class": f"{MATCH}es"},
            "typo.dev.v0": {"class": MATCH, "args": {"sample_jsonl": "good.jsonl"}},
            "data.dev.v0": {"class": MATCH, "args": {"samples_jsonl": "none.jsonl"}},
            "lfs.dev.v0": {"class": MATCH, "args": {"samples_jsonl": "lfs.jsonl"}},
            "host.dev.v0": {"class": MATCH, "args": {"samples_jsonl": "/mnt/x/a.jsonl"}},
            "hub.dev.v0": {"class": MATCH, "args": {**GOOD["args"], "dataset": "hf://x"}},  # type: ignore[dict-item] # JSON
            "graded.dev.v0": {
                "class": "evals.elsuite.modelgraded.classify:ModelBasedClassify",
                "args": {"samples_jsonl": "good.jsonl", "modelgraded_spec": "nobody"},
            },
            "nodot": GOOD,
        },
        **{"data/lfs.jsonl": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"},
    )
    found, plan = fitted(msgspec.structs.replace(options, network="none"), host)
    why = {name: each.why.replace(str(folder), "OWN") for name, each in found.obstacles.items()}
    image = options.image
    assert why == {
        "torch.dev.v0": f"no module `torch` in the image {image}",
        "own.dev.v0": "OWN/evals/own.dev.v0.yaml: no module `my_package`, which has "
        "`my_package.evals:Mine`",
        "gone.dev.v0": f"the class `{MATCH}es` cannot be imported: AttributeError: module "
        "'evals.elsuite.basic.match' has no attribute 'Matches'",
        "typo.dev.v0": f"OWN/evals/typo.dev.v0.yaml: the class `{MATCH}` does not take its "
        "`args`: missing a required argument: 'samples_jsonl'",
        "data.dev.v0": "OWN/evals/data.dev.v0.yaml: there is no data `none.jsonl`, which "
        "`samples_jsonl` names",
        "lfs.dev.v0": "OWN/data/lfs.jsonl is a pointer of Git LFS, not the data",
        "host.dev.v0": "OWN/evals/host.dev.v0.yaml: `samples_jsonl` names `/mnt/x/a.jsonl`, a "
        "path that is not in the container",
        "hub.dev.v0": "it loads hf:// and has no network",
        "graded.dev.v0": "OWN/evals/graded.dev.v0.yaml: no registry has `nobody` in modelgraded/",
        "nodot": "OWN/evals/nodot.yaml: oaieval needs a dot in an eval's name",
    }
    assert [job.eval for job in plan.todo] == ["good.dev.v0"]
    assert {job.eval for job in plan.unable} == why.keys()
    assert plan.why[plan.unable[0].key].startswith("cannot run: ")


def test_a_class_of_any_kind_costs_only_itself(
    options: RunOptions, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may print, exit, hang, fork or kill its process; what is not sure is a warning."""
    monkeypatch.setattr(looking, "_ONE_CLASS", 4)
    evals = {f"{name}.dev.v0": {"class": f"{name}:It", "args": GOOD["args"]} for name in HOSTILE}
    code = {f"code/{name}.py": f"{text}\n" for name, text in HOSTILE.items()}
    folder = put(options, evals, **code)
    found, plan = fitted(options, host)
    why = {
        name.partition(".")[0]: each.why.replace(str(folder), "OWN")
        for name, each in found.obstacles.items()
    }
    assert why == {
        "raises": "the class `raises:It` cannot be imported: KeyError: 'of its own' "
        "(OWN/code/raises.py:1)",
        "lacks": f"no module `no_such_package` in the image {options.image}",
        "leaves": "importing the class `leaves:It` ends the program: SystemExit: 3",
        "quits": "importing the class `quits:It` ends the program: exit status 0",
        "writes": "the class `writes:It` cannot be imported: OSError: [Errno 30] Read-only file "
        "system: '/etc/x' (OWN/code/writes.py:1)",
    }
    assert {job.eval.partition(".")[0] for job in plan.todo} == HOSTILE.keys() - why.keys()
    assert any("kills.dev.v0: importing the class" in each for each in found.warnings)
    assert any("hangs.dev.v0: importing the class" in each for each in found.warnings)
    offline = reasons(msgspec.structs.replace(options, network="none"), host)
    for name in ("calls", "hides"):
        told = f"the class `{name}:It` needs a network when it is imported, and has none: "
        assert offline[f"{name}.dev.v0"].startswith(told)


def test_an_image_is_asked_once(
    options: RunOptions, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only evals that are new, and another content of folders, start a container again."""
    put(options, {"a.dev.v0": GOOD, "b.dev.v0": {"class": "mine:B"}})
    asked = []

    def counted(*given: object) -> object:
        asked.append(given[-1])
        return ask(*given)  # type: ignore[arg-type] # as it was called

    ask = looking._ask
    monkeypatch.setattr(looking, "_ask", counted)
    one = msgspec.structs.replace(options, select=("b*",))
    assert list(reasons(one, host)) == ["b.dev.v0"]
    assert list(reasons(options, host)) == ["b.dev.v0"]
    assert list(reasons(options, host)) == ["b.dev.v0"]
    assert asked == [["b.dev.v0"], ["a.dev.v0"]]
    folder = Path(options.registry_paths[0])
    (folder / "data" / "good.jsonl").unlink()
    assert sorted(reasons(options, host)) == ["a.dev.v0", "b.dev.v0"]
    assert asked[2:] == [["a.dev.v0", "b.dev.v0"]]


def refused(options: RunOptions, host: Host, *arguments: str) -> str:
    """The one line with which a run is refused."""
    with pytest.raises(UsageError) as caught:
        fitted(msgspec.structs.replace(options, passed_through=arguments), host)
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--record_dir", "logs"), "unrecognized arguments: --record_dir logs"),
        (("--max_samples", "few"), "argument --max_samples: invalid int value: 'few'"),
        (("--extra_eval_params", "a"), "--extra_eval_params: oaieval takes NAME=VALUE"),
        (("--http-run",), "oaieval refuses --http-run without --http-run-url"),
        (("--log_to_file", "/home/me/x.log"), "--log_to_file /home/me/x.log is a path inside"),
    ],
)
def test_arguments_are_refused_in_oaievals_own_words(
    options: RunOptions, host: Host, arguments: tuple[str, ...], said: str
) -> None:
    """Before the first container, not in each of them."""
    put(options, {"good.dev.v0": GOOD})
    assert said in refused(options, host, *arguments)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('short: "good.dev.v0"', "`short` is plain text (`good.dev.v0`)"),
        ("empty:", "oaieval's loader refuses `empty` (TypeError"),
    ],
)
def test_an_entry_that_the_loader_refuses_is_named(
    options: RunOptions, host: Host, entry: str, said: str
) -> None:
    """With its file, though the eval set does not ask for it."""
    folder = put(options, {"good.dev.v0": GOOD}, **{"evals/zz.yaml": f"{entry}\n"})
    line = refused(options, host)
    assert line.startswith(f"{folder}/evals/zz.yaml: ")
    assert said in line


def test_a_grader_that_the_loader_refuses_concerns_those_who_ask_for_one(
    options: RunOptions, host: Host
) -> None:
    """For them alone oaieval reads modelgraded/."""
    graded = {
        "class": "evals.elsuite.modelgraded.classify:ModelBasedClassify",
        "args": {"samples_jsonl": "good.jsonl", "modelgraded_spec": "fact"},
    }
    put(options, {"good.dev.v0": GOOD, "graded.dev.v0": graded}, **{"modelgraded/x.yaml": "a: b\n"})
    (why,) = reasons(options, host).items()
    assert why[0] == "graded.dev.v0"
    assert "modelgraded/x.yaml: `a` is plain text (`b`)" in why[1]


def test_a_module_that_takes_anothers_place_is_named(options: RunOptions, host: Host) -> None:
    """Without oaieval nothing can run."""
    put(options, {"good.dev.v0": GOOD}, **{"code/pydantic.py": "x = 1\n"})
    line = refused(options, host)
    assert line.startswith(
        f"oaieval cannot start in the image {options.image}: ModuleNotFoundError"
    )


def test_a_model_whose_class_is_not_there_keeps_all_from_running(
    options: RunOptions, host: Host
) -> None:
    """Its own arguments count, too, and those that its solver names."""
    models = {
        "lacking": {"class": "my_models:Fn"},
        "typo": {
            "class": "evals.completion_fns.openai:OpenAIChatCompletionFn",
            "args": {"modle": 1},
        },
        "outer": {
            "class": "evals.solvers.nested.cot_solver:CoTSolver",
            "args": {"cot_solver": {"class": "my_solvers:S", "args": {}}, "extract_solver": {}},
        },
    }
    put(options, {"good.dev.v0": GOOD}, **{"completion_fns/own.yaml": json.dumps(models)})
    why = {name: reasons(msgspec.structs.replace(options, model=name), host) for name in models}
    assert "no module `my_models`" in why["lacking"]["good.dev.v0"]
    assert "unexpected keyword argument 'modle'" in why["typo"]["good.dev.v0"]
    assert "my_solvers" in why["outer"]["good.dev.v0"]


def test_what_may_take_long_is_a_warning_and_is_tried(
    options: RunOptions, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As measured of upstream's evals; those with the same words are on one line."""
    kinds: dict[str, Kind] = {
        "a.dev.v0": "time",
        "b.dev.v0": "time",
        "c.dev.v0": "download",
        "d.dev.v0": "fetch",
        "e.dev.v0": "data",
    }
    put(options, dict.fromkeys(kinds, GOOD))
    measured = {name: Need(image="", kind=kind, why="is slow") for name, kind in kinds.items()}
    monkeypatch.setattr(unable, "needs", lambda: measured)
    found, _ = fitted(options, host)
    assert list(found.obstacles) == ["e.dev.v0"]
    assert [each for each in found.warnings if ".dev.v0" in each] == [
        (
            "a.dev.v0, b.dev.v0: is slow; give it some hours with --timeout, or skip it with "
            "--exclude"
        ),
        (
            "c.dev.v0: is slow in each run, where `evalset data fetch` cannot help; skip it "
            "with --exclude if that takes too long"
        ),
        (
            "d.dev.v0: loads data from elsewhere in each run; `evalset data fetch dummy mine` "
            "brings them once, and pins them"
        ),
    ]


def test_what_is_added_to_the_image_may_cure_an_eval_of_upstreams(
    options: RunOptions, host: Host, tmp_path: Path
) -> None:
    """Its class is then imported there, whatever was measured without."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "gymnasium_bandits.py").touch()
    names = ["incontext_rl.v0", "steganography.direct", "best.dev.v0"]
    eval_set = json.dumps({"mine": {"evals": names}})
    put(options, {}, **{"eval_sets/mine.yaml": eval_set})
    assert list(reasons(options, host)) == names
    found, _ = fitted(msgspec.structs.replace(options, code=(str(code),)), host)
    assert list(found.obstacles) == names[1:]
    assert "--requirements" in found.obstacles[names[1]].cure


def test_code_that_replaces_nothing_leaves_what_was_measured(
    options: RunOptions, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what it may change is imported, which takes long for all of upstream's classes."""
    asked: list[looking.Question] = []

    def question(**facts: Any) -> looking.Question:  # noqa: ANN401 - those of a question
        asked.append(looking.Question(**facts))
        return asked[-1]

    monkeypatch.setattr(unable, "Question", question)
    names = ["incontext_rl.v0", "test-match.s1.simple-v0"]
    put(options, {}, **{"eval_sets/mine.yaml": json.dumps({"mine": {"evals": names}})})
    code = tmp_path / "code"
    code.mkdir()
    own = msgspec.structs.replace(options, code=(str(code),))
    (code / "mine.py").touch()
    reasons(own, host)
    (code / "numpy.py").write_text("x = 1")
    found = reasons(own, host)
    assert [each.tested for each in asked] == [(names[1],), ()]
    assert [*found] == names


def test_what_a_container_cannot_see_is_found_in_all_arguments(
    options: RunOptions, host: Host
) -> None:
    """Of a model, of one that it names, of an eval, and of the run."""
    fn = {"class": "evals.completion_fns.openai:OpenAICompletionFn"}
    models = {
        "near": {**fn, "args": {"api_base": "http://localhost:8000/v1"}},
        "outer": {
            "class": "evals.completion_fns.cot:ChainOfThoughtCompletionFn",
            "args": {"cot_completion_fn": "near", "cot_template": "/home/me/prompt.txt"},
        },
    }
    nested = {"class": MATCH, "args": {**GOOD["args"], "extra": {"urls": ["127.0.0.1:9"]}}}  # type: ignore[dict-item] # JSON
    evals = {"good.dev.v0": GOOD, "nested.dev.v0": nested}
    folder = put(options, evals, **{"completion_fns/own.yaml": json.dumps(models)})
    arguments = ("--extra_eval_params", "output_path=out.json,judge=localhost:70")
    found, _ = fitted(
        msgspec.structs.replace(options, model="outer", passed_through=arguments), host
    )
    for said in (
        f"{folder}/completion_fns/own.yaml: `api_base` names `http://localhost:8000/v1`, which",
        f"{folder}/completion_fns/own.yaml: `cot_template` names `/home/me/prompt.txt`, a path of",
        f"{folder}/evals/nested.dev.v0.yaml: `urls` names `127.0.0.1:9`, which",
        "`output_path` names `out.json`; what an eval writes there is thrown away",
        "`--extra_eval_params`: `judge` names `localhost:70`, which",
    ):
        assert [said in each for each in found.warnings].count(True) >= 1, said
    assert found.obstacles == {}


def test_all_or_none_is_refused_with_the_reasons(options: RunOptions, host: Host) -> None:
    """A user who asks for --exit-on-error wants nothing to start."""
    put(options, {"good.dev.v0": GOOD, "own.dev.v0": {"class": "mine:B"}})
    with pytest.raises(UsageError, match="1 eval cannot run, and --exit-on-error") as caught:
        fitted(msgspec.structs.replace(options, all_or_none=True), host)
    (note,) = caught.value.__notes__
    assert note.startswith("Error: own.dev.v0: ")


def test_the_drop_in_warns_and_tries(options: RunOptions, host: Host) -> None:
    """As upstream would."""
    put(options, {"good.dev.v0": GOOD, "own.dev.v0": {"class": "mine:B"}})
    found, plan = fitted(msgspec.structs.replace(options, as_typed=True), host)
    assert len(plan.todo) == 2
    assert any("own.dev.v0: " in warning for warning in found.warnings)


def test_another_program_is_not_looked_for(
    options: RunOptions, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is anything with --no-probe."""
    put(options, {"own.dev.v0": {"class": "mine:B"}})
    monkeypatch.setattr(unable, "look_inside", pytest.fail)
    for changed in ({"probe": False}, {"run_command": "/bin/program"}):
        assert reasons(msgspec.structs.replace(options, **changed), host) == {}


def test_an_image_without_oaieval_is_said_and_tried(
    options: RunOptions, host: Host, test_image: str
) -> None:
    """What cannot be asked knows nothing."""
    put(options, {"own.dev.v0": {"class": "mine:B"}})
    found, plan = fitted(msgspec.structs.replace(options, image=test_image), host)
    assert len(plan.todo) == 1
    assert any("has no `oaieval` that is a Python program" in warning for warning in found.warnings)


def test_a_rules_image_is_looked_into_for_its_evals(
    options: RunOptions, host: Host, test_image: str
) -> None:
    """Each eval is asked of in its own."""
    rule = json.dumps({"other*": {"image": test_image}})
    put(
        options,
        {"own.dev.v0": {"class": "mine:B"}, "other.dev.v0": {"class": "mine:B"}},
        **{"containers/all.yaml": rule},
    )
    assert list(reasons(options, host)) == ["own.dev.v0"]


def test_gpus_that_the_engine_cannot_give_are_said(options: RunOptions, host: Host) -> None:
    """For each eval that is to have some; one without runs."""
    rule = json.dumps({"gpu*": {"gpus": "all"}})
    put(
        options,
        {"gpu.dev.v0": GOOD, "good.dev.v0": GOOD},
        **{"containers/all.yaml": rule},
    )
    assert reasons(options, host) == {"gpu.dev.v0": "the engine cannot give it a GPU"}


def test_a_look_leaves_no_container(
    options: RunOptions, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one whose answer refuses the run."""
    put(options, {"good.dev.v0": GOOD})
    made = []

    def create(*given: object) -> object:
        made.append(docker_py_create(*given))  # type: ignore[arg-type] # as it was called
        return made[-1]

    docker_py_create = docker_py.create
    monkeypatch.setattr(docker_py, "create", create)
    prepared, _ = fitted(options, host)
    refused(options, host, "--nonsense")
    ours = [each["Id"] for each in prepared.engine.api.containers(all=True) if each["Id"] in made]
    assert made
    assert ours == []
