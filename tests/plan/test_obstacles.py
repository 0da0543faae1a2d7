from pathlib import Path

import msgspec
import pytest

from runner.gateway.providers import access_for
from runner.host import variables_for_containers
from runner.model import ContainerSettings
from runner.plan.explanations import inside_data, obstacles, refusal
from runner.plan.obstacles import (
    Context,
    Finding,
    Look,
    Obstacle,
    caution_about,
    copied,
    grouped,
    lacks_image,
    obstacle_of,
    some,
)
from runner.registry.needs import Kind, Need, needs

SETTINGS = ContainerSettings(
    image="i:1", memory=1, cpus=None, pids_limit=1, gpus=None, timeout=1, network="evalset"
)
CONTEXT = Context(settings=SETTINGS, folders={"/registry/0": Path("/home/me/own")})
FILE = "/registry/0/evals/x.yaml"


def without_network(context: Context) -> Context:
    return msgspec.structs.replace(
        context, settings=msgspec.structs.replace(SETTINGS, network="none")
    )


def told(finding: Finding, context: Context = CONTEXT) -> str:
    """The line about an eval `a.b` of which this was found; empty where it can run."""
    found, warnings = obstacles(Look(evals={"a.b": (finding,)}), ["a.b"], context)
    assert not warnings
    return f"{found['a.b'].why}; {found['a.b'].cure}" if found else ""


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (
            Finding(kind="module", module="torch"),
            (
                "no module `torch` in the image i:1; add it with --requirements, or use an "
                "--image that has it"
            ),
        ),
        (
            Finding(kind="own_module", module="mine.x", cls="mine.x:Y", file=FILE),
            (
                "/home/me/own/evals/x.yaml: no module `mine.x`, which has `mine.x:Y`; name its "
                "folder with --code"
            ),
        ),
        (
            Finding(kind="import", cls="a:B", said="KeyError: 'x'", where="/registry/0/a.py:3"),
            (
                "the class `a:B` cannot be imported: KeyError: 'x' (/home/me/own/a.py:3); fix the "
                "module, or use an --image in which it can"
            ),
        ),
        (
            Finding(kind="pointer", path="/registry/0/data/x.jsonl"),
            (
                "/home/me/own/data/x.jsonl is a pointer of Git LFS, not the data; run `git lfs "
                "pull`; actions/checkout needs `lfs: true`"
            ),
        ),
        (
            Finding(kind="absolute", argument="samples_jsonl", said="/r/data/m/x.jsonl", file=FILE),
            (
                "/home/me/own/evals/x.yaml: `samples_jsonl` names `/r/data/m/x.jsonl`, a path that "
                "is not in the container; put the file below the folder `data` of the registry and "
                "write its path from there, such as `m/x.jsonl`"
            ),
        ),
        (
            Finding(
                kind="data", argument="samples_jsonl", said="x.jsonl", file="/opt/evals/e.yaml"
            ),
            (
                "i:1:/opt/evals/e.yaml: there is no data `x.jsonl`, which `samples_jsonl` names; "
                "put it below the folder `data` of its registry, from which the path starts"
            ),
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Finding) else "",
)
def test_a_finding_is_one_line_with_file_and_cure(finding: Finding, line: str) -> None:
    """Paths are those that people know: the host's, or with the image's name."""
    assert told(finding) == line


@pytest.mark.parametrize(
    ("said", "where", "cure"),
    [
        ("data/m/x.jsonl", "/home/me/own/data/m/x.jsonl", "write `m/x.jsonl`"),
        ("own/data/x.jsonl", "/home/me/own/data/x.jsonl", "write `x.jsonl`"),
        (
            "x.jsonl",
            "/home/me/own/x.jsonl",
            "copy the file to /home/me/own/data/x.jsonl, and write `x.jsonl`",
        ),
        (
            "./data/m/x.jsonl",
            "/home/me/data/m/x.jsonl",
            "copy the file to /home/me/own/data/m/x.jsonl, and write `m/x.jsonl`",
        ),
    ],
)
def test_data_that_are_elsewhere_on_the_host_are_told_with_what_to_write(
    said: str, where: str, cure: str
) -> None:
    """Paths start at the registry's `data`, and not at the repository."""
    finding = Finding(kind="data", argument="samples_jsonl", said=said, file=FILE)
    astray = {(FILE, said): Path(where)}
    line = told(finding, msgspec.structs.replace(CONTEXT, astray=astray))
    assert line == (
        f"/home/me/own/evals/x.yaml: `samples_jsonl` names `{said}`, a path that starts at the "
        f"folder `data` of the registry, but the file is {where}; {cure}"
    )
    assert told(finding).endswith(
        "put it below the folder `data` of its registry, from which the path starts"
    )


@pytest.mark.parametrize("kind", ["network", "loads"])
def test_a_network_is_missed_only_where_there_is_none(kind: str) -> None:
    """The look has none itself; the eval may."""
    finding = Finding(kind=kind, said="hf://x")
    assert told(finding) == ""
    assert "leave --network none out" in told(finding, without_network(CONTEXT))


def test_what_is_kept_offline_needs_no_network() -> None:
    """With the hub's own variable for it."""
    context = msgspec.structs.replace(without_network(CONTEXT), environment={"HF_HUB_OFFLINE": "1"})
    assert told(Finding(kind="loads", said="hf://x"), context) == ""


def test_what_is_found_of_a_model_is_every_evals() -> None:
    """The others have nothing else."""
    look = Look(
        evals={
            "/m": (Finding(kind="module", module="langchain"),),
            "a.b": (Finding(kind="module", module="torch"),),
        }
    )
    found, _ = obstacles(look, ["a.b", "c.d"], CONTEXT)
    assert {name: each.why for name, each in found.items()} == dict.fromkeys(
        ("a.b", "c.d"), "no module `langchain` in the image i:1"
    )


def test_a_models_provider_must_be_reached() -> None:
    """By the gateway, or with a key that is passed in."""
    finding = Finding(kind="provider", said="anthropic", entry="m")
    look = Look(evals={"/m": (finding,)})
    found, _ = obstacles(look, ["a.b"], CONTEXT)
    assert found["a.b"].why == "`m` asks anthropic, and ANTHROPIC_API_KEY is not set"
    covered = msgspec.structs.replace(CONTEXT, providers=frozenset({"anthropic"}))
    assert obstacles(look, ["a.b"], covered)[0] == {}
    with_key = msgspec.structs.replace(CONTEXT, environment={"GEMINI_API_KEY": "k"})
    google = Look(evals={"/m": (msgspec.structs.replace(finding, said="google"),)})
    assert "which the gateway does not cover" in obstacles(google, ["a.b"], CONTEXT)[0]["a.b"].why
    assert obstacles(google, ["a.b"], with_key)[0] == {}


def test_what_is_not_sure_is_a_warning_with_the_evals() -> None:
    """They run; the same words are said once."""
    finding = Finding(kind="hangs", cls="a:B", sure=False)
    names = ["a.1", "a.2", "a.3", "a.4"]
    look = Look(evals=dict.fromkeys(names, (finding,)))
    found, warnings = obstacles(look, names, CONTEXT)
    assert found == {}
    assert warnings == (
        (
            "a.1, a.2, a.3 and 1 more: importing the class `a:B` takes very long; see whether it "
            "waits for something"
        ),
    )


def test_localhost_in_everybodys_arguments_is_said_once() -> None:
    """And not where a container shares it."""
    found = Finding(
        kind="localhost",
        sure=False,
        entry="--completion_args",
        argument="api_base",
        said="localhost:80",
    )
    look = Look(refused=(found,), evals={"a.b": ()})
    assert refusal(look, CONTEXT) is None
    _, (warning,) = obstacles(look, ["a.b"], CONTEXT)
    assert warning.startswith("`--completion_args`: `api_base` names `localhost:80`, which inside")
    shared = msgspec.structs.replace(SETTINGS, network="host")
    assert obstacles(look, ["a.b"], msgspec.structs.replace(CONTEXT, settings=shared)) == ({}, ())


def test_a_broken_file_of_models_keeps_only_those_from_running_that_it_may_define() -> None:
    """A model of a provider is looked for there first."""
    entry = Finding(kind="entry", file="/registry/0/solvers/x.yaml", entry="s", alias="t")
    look = Look(evals={"/gpt-4o": (entry,)})
    found, warnings = obstacles(look, ["a.b"], CONTEXT)
    assert not found
    assert "/home/me/own/solvers/x.yaml: `s` is plain text (`t`)" in warnings[0]
    ours = msgspec.structs.replace(CONTEXT, defines_model=True)
    assert list(obstacles(look, ["a.b"], ours)[0]) == ["a.b"]


def test_what_every_eval_fails_of_is_an_error_with_the_others_as_notes() -> None:
    """One line each."""
    look = Look(
        refused=(
            Finding(kind="arguments", said="unrecognized arguments: --record_dir logs"),
            Finding(kind="log", said="x.log", sure=False),
            Finding(kind="http"),
        )
    )
    error = refusal(look, CONTEXT)
    assert error is not None
    assert str(error) == (
        "oaieval refuses the arguments that are passed through: unrecognized arguments: "
        "--record_dir logs; leave that out; `evalset run --help` shows evalset's own options"
    )
    (note,) = error.__notes__
    assert note.startswith("Error: oaieval refuses --http-run without")
    _, (warning,) = obstacles(look, ["a.b"], CONTEXT)
    assert warning.startswith("--log_to_file x.log is a path inside the container")


def test_an_option_that_oaieval_spells_otherwise_is_told_with_its_spelling() -> None:
    """Unless there is another that it does not have at all."""
    said = "unrecognized arguments: --max-samples 5"
    error = refusal(Look(refused=(Finding(kind="arguments", said=said),)), CONTEXT)
    assert str(error).endswith("--max-samples 5; oaieval's is `--max_samples`")
    more = Finding(kind="arguments", said=f"{said} --record_dir=logs")
    assert "leave that out" in str(refusal(Look(refused=(more,)), CONTEXT))


def test_an_alias_as_plain_text_is_told_how_to_write_it() -> None:
    """With the file, the entry and what to write."""
    entry = Finding(kind="entry", file=FILE, entry="short", alias="cap.dev.v0", shape="str")
    error = refusal(Look(refused=(entry,)), CONTEXT)
    assert str(error) == (
        "/home/me/own/evals/x.yaml: `short` is plain text (`cap.dev.v0`), which oaieval's loader "
        "refuses, together with everything else in its folder; write `short: {id: cap.dev.v0}`"
    )


def test_evals_with_the_same_reason_are_together() -> None:
    """The largest group first."""
    one, two = Obstacle(why="a", cure="x"), Obstacle(why="b", cure="y")
    assert grouped({"1": one, "2": two, "3": two}) == {two: ["2", "3"], one: ["1"]}
    assert list(grouped({"1": one, "2": two, "3": two})) == [two, one]


def test_a_long_list_is_cut() -> None:
    """Three are named."""
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/home/me/own/data/x/y.jsonl", "x/y.jsonl"),
        ("/mnt/y.jsonl", "y.jsonl"),
    ],
)
def test_a_path_of_the_host_becomes_one_below_data(path: str, inside: str) -> None:
    """Where it has a folder of that name; else the file's name is all that is known."""
    assert inside_data(path) == inside


def test_a_copy_of_upstreams_registry_is_known_by_what_it_has_in_common() -> None:
    """What it has besides is named; a few names in common are an accident."""
    builtin = {f"e{number}": "i:evals/a.yaml" for number in range(20)}
    assert copied(builtin, dict.fromkeys(list(builtin)[:9], "f"), Path("/f")) is None
    whole = copied(builtin, builtin, Path("/f"))
    assert whole is not None
    assert "20 of its 20 evals are there; leave --registry-path out" in str(whole)
    fork = copied(builtin, {**builtin, "mine.v0": "/f/evals/mine.yaml"}, Path("/f"))
    assert fork is not None
    assert "20 of its 21 evals are there; copy your own files (mine.yaml," in str(fork)


def measured(kind: Kind | None, context: Context = CONTEXT, model: str = "gpt-4") -> str:
    """The cure for an eval of upstream's with such a need; empty where it can run."""
    need = Need(image="", kind=kind, why="does something")
    found = obstacle_of(need, context, model=model)
    assert found is None or found.why == "it does something"
    return found.cure if found else ""


@pytest.mark.parametrize("kind", ["package", "engine", "data", "upstream"])
def test_what_no_image_of_ours_has_keeps_an_eval_from_running(kind: Kind) -> None:
    """Whatever model and network it has."""
    assert "skip it" in measured(kind)


def test_what_is_fetched_needs_a_network_or_a_cache() -> None:
    """A cache shows in the variables that make libraries ask nobody."""
    assert not measured("fetch")
    assert "evalset data fetch" in measured("fetch", without_network(CONTEXT))
    cached = msgspec.structs.replace(without_network(CONTEXT), environment={"HF_HUB_OFFLINE": "1"})
    assert not measured("fetch", cached)


@pytest.mark.parametrize(
    ("environ", "gateway", "runs"),
    [
        ({}, True, False),
        ({}, False, False),
        ({"OPENAI_API_KEY": ""}, False, False),
        ({"ANTHROPIC_API_KEY": "k"}, True, False),
        ({"OPENAI_API_KEY": "k"}, True, True),
        ({"OPENAI_API_KEY": "k"}, False, True),
        ({"OPENAI_BASE_URL": "http://192.0.2.1:8000/v1"}, True, True),
        ({"OPENAI_BASE_URL": "http://192.0.2.1:8000/v1"}, False, True),
    ],
)
def test_an_eval_with_a_model_of_its_own_must_reach_openai(
    environ: dict[str, str], *, gateway: bool, runs: bool
) -> None:
    """A word that stands for a key, as each container gets one, is none."""
    given = variables_for_containers(environ, names=(), env_file=None, model="dummy")
    access = access_for(given, named=(), upstreams=(), environ=environ)
    context = msgspec.structs.replace(
        CONTEXT,
        providers=frozenset(access.routes if gateway else ()),
        environment=access.inside if gateway else given,
    )
    assert context.environment.keys() >= {"OPENAI_API_KEY"}
    assert measured("model", context) == ("" if runs else "set OPENAI_API_KEY, or skip it")


def test_such_an_eval_needs_no_network_besides() -> None:
    """The gateway suffices: how its model counts tokens is known in the image."""
    need = needs()["bluff.gpt-4"]
    context = msgspec.structs.replace(without_network(CONTEXT), providers=frozenset({"openai"}))
    assert need.kind == "model"
    assert obstacle_of(need, context, model="gpt-4") is None


def test_what_is_downloaded_past_every_cache_needs_a_network() -> None:
    """`evalset data fetch` cannot bring it."""
    assert not measured("download")
    cached = msgspec.structs.replace(without_network(CONTEXT), environment={"HF_HUB_OFFLINE": "1"})
    assert measured("download", cached) == "leave --network none out"


def cautioned(kind: Kind | None, context: Context = CONTEXT, timeout: float = 3600) -> str:
    """What is said of an eval of upstream's that can run."""
    need = Need(image="", kind=kind, why="does something")
    assert obstacle_of(need, context, model="gpt-4") is None
    return caution_about(need, context, timeout=timeout, fetch="fetch it")


def test_what_an_eval_brings_itself_in_each_run_is_said() -> None:
    """Where a cache can hold it, with the command that fills the cache; then no more."""
    assert cautioned("fetch").startswith("loads data from elsewhere in each run; `fetch it`")
    cached = msgspec.structs.replace(CONTEXT, environment={"HF_HUB_OFFLINE": "1"})
    assert not cautioned("fetch", cached)
    for context in (CONTEXT, cached):
        assert cautioned("download", context).startswith("does something in each run, where")
    assert not cautioned(None)


def test_what_takes_hours_is_said_unless_it_is_given_hours() -> None:
    """It can run: time is all that it lacks, with or without a network."""
    for context in (CONTEXT, without_network(CONTEXT)):
        assert cautioned("time", context).startswith("does something; give it some hours with")
        assert not cautioned("time", context, timeout=3601)


def test_what_only_dummy_cannot_do_is_said_of_dummy_alone() -> None:
    """And nothing is said of what runs."""
    assert "another model" in measured("dummy", model="dummy")
    assert not measured("dummy")
    assert not measured(None)


def test_an_eval_that_compares_models_runs_with_several() -> None:
    """As `oaieval` takes them: with commas between them."""
    assert "several models" in measured("models")
    assert not measured("models", model="gpt-4,gpt-4o")


def test_an_image_that_is_not_here_is_named() -> None:
    """With the command that builds it."""
    assert lacks_image("evals-ml", "ml").why == "it needs the image evals-ml, which is not here"
    assert "evalset image build --extra ml" in lacks_image("evals-ml", "ml").cure
