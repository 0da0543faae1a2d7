from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from runner.engine.engine import Engine
from runner.errors import UsageError
from runner.host import Host, this_host
from runner.image.image import Image
from runner.options import DEFAULT_IMAGE, RunOptions
from runner.records.progress import AttemptsFile, ProgressFile
from runner.registry.resolve import Resolution
from runner.run.prepare import (
    Prepared,
    environment_for,
    planned,
    prepare,
    secret_variables,
    state_of,
    with_warnings,
)
from runner.units import Budget, Rate, Upstream, parse_rate
from tests.conftest import engine_api
from tests.outcomes import failure, job, success

HERE = Resolution(evals=("a", "b"), names={"a": ("a",), "b": ("b",)})


@pytest.fixture
def host(tmp_path: Path, cache: Path) -> Host:
    """A machine of the test's own making."""
    return Host(
        environ={},
        home=tmp_path / "home",
        cache=cache / "evalset",
        name="elsewhere",
        user="1000:1000",
    )


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    return RunOptions(
        model="dummy",
        eval_set="test-basic",
        progress_dir=tmp_path / "progress",
    )


def changed(value: Host, environ: Mapping[str, str]) -> Host:
    return msgspec.structs.replace(value, environ=environ)


def put(folder: Path, kind: str, text: str) -> Path:
    (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / kind / "own.yaml").write_text(text)
    return folder


def ready(options: RunOptions, host: Host, resolution: Resolution = HERE) -> Prepared:
    """What a run needs, with evals that no registry has."""
    return prepare(options, host, resolution=resolution)


def test_this_host_is_taken_from_its_environment(tmp_path: Path) -> None:
    """The cache folder is where the XDG base directory specification puts it."""
    home = str(tmp_path)
    assert this_host({"HOME": home}).cache == tmp_path / ".cache/evalset"
    assert this_host({"HOME": home, "XDG_CACHE_HOME": "/c"}).cache == Path("/c/evalset")
    assert this_host({"HOME": home}).home == tmp_path


def test_a_name_that_cannot_be_is_refused_before_the_engine_is_asked(
    options: RunOptions, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with the engine, that is to be fixed first."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    bad = msgspec.structs.replace(options, model="../up")
    with pytest.raises(UsageError, match="would lead elsewhere"):
        prepare(bad, host)


@pytest.mark.docker
def test_the_images_registry_is_read_once(
    options: RunOptions, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run of an image starts no container for it."""
    first = prepare(options, host)
    assert "test-match.s1.simple-v0" in first.resolution.evals
    monkeypatch.setattr("runner.engine.image_probe.ask", pytest.fail)
    assert prepare(options, host).resolution == first.resolution


@pytest.mark.docker
def test_registries_of_the_user_are_merged_and_mounted(
    options: RunOptions, host: Host, tmp_path: Path
) -> None:
    """`~/.evals` at the container's home, the others at a place that is the same on every host."""
    put(host.home / ".evals", "evals", "h: {class: x}")
    put(tmp_path / "one", "eval_sets", "mine: {evals: [h, test-match]}")
    put(tmp_path / "two", "containers", "h: {memory: 1g}")
    asked = msgspec.structs.replace(
        options,
        eval_set="mine",
        registry_paths=(str(tmp_path / "one"), str(tmp_path / "two")),
    )
    found = prepare(asked, host)
    assert found.resolution.evals == ("test-match.s1.simple-v0", "h")
    assert found.mounts == {
        tmp_path / "one": "/registry/0",
        tmp_path / "two": "/registry/1",
        host.home / ".evals": "/tmp/.evals",
    }
    assert [rule.pattern for rule in found.rules] == ["h"]
    plan = planned(found, state_of(found))
    assert [job.settings.memory for job in plan.jobs] == [options.memory, 2**30]


@pytest.mark.docker
def test_localhost_is_warned_of(options: RunOptions, host: Host) -> None:
    """Inside a container it is the container itself, unless the network is the host's.

    The gateway is outside.
    """
    at_home = changed(host, {"OPENAI_BASE_URL": "http://localhost:8000/v1"})
    assert ready(options, at_home).warnings == ()
    options = msgspec.structs.replace(options, gateway=False)
    (warning,) = ready(options, at_home).warnings
    assert warning == (
        "the variable OPENAI_BASE_URL names `localhost`, which inside a container is the container "
        "itself; leave --no-gateway out, write http://host.docker.internal:PORT, or use --network "
        "host"
    )
    on_host = msgspec.structs.replace(options, network="host")
    assert ready(on_host, at_home).warnings == ()
    assert ready(options, changed(host, {"OPENAI_BASE_URL": "http://api/v1"})).warnings == ()


@pytest.mark.docker
def test_localhost_is_looked_for_in_each_variable_that_evals_get(
    options: RunOptions, host: Host, tmp_path: Path
) -> None:
    """Named, in a file, in a rule, or usual; nothing else of a value is shown."""
    (tmp_path / "some.env").write_text("SEARCH=127.0.0.1:9200\nNEAR=db.localhost.example\n")
    put(tmp_path / "own", "containers", "{a: {env: [JUDGE]}, b: {env: [BESIDE], network: host}}")
    environ = {
        "STORE": "redis://user:secret@localhost:6379/0",
        "JUDGE": "http://[::1]:8000/v1",
        "BESIDE": "http://localhost:1",
        "UNUSED": "http://localhost:2",
        "HTTP_PROXY": "http://127.0.0.1:3128",
        "NO_PROXY": "localhost",
        "OPENAI_BASE_URL": "http://localhost:8000/v1",
    }
    asked = msgspec.structs.replace(
        options,
        env=("STORE",),
        env_file=tmp_path / "some.env",
        registry_paths=(str(tmp_path / "own"),),
    )
    found = ready(asked, changed(host, environ)).warnings
    assert [each.partition(", which inside a container is ")[0] for each in found] == [
        "the variable HTTP_PROXY names `127.0.0.1`",
        "the variable JUDGE names `[::1]`",
        "the variable SEARCH names `127.0.0.1`",
        "the variable STORE names `localhost`",
    ]
    cure = "; write http://host.docker.internal:PORT, or use --network host"
    assert all(each.endswith(cure) for each in found)
    without = msgspec.structs.replace(asked, network="none")
    assert not any("HTTP_PROXY" in each for each in ready(without, changed(host, environ)).warnings)


@pytest.mark.docker
def test_the_plan_follows_what_is_on_disk(options: RunOptions, host: Host) -> None:
    """What was finished is done, what failed says so, and --no-resume ignores both."""
    prepared = ready(options, host)
    with ProgressFile(prepared.layout.progress) as file:
        file.add_commands(job("a").command)
    with AttemptsFile(prepared.layout.attempts) as attempts:
        attempts.add_records(
            failure(job("b"), "1"),
            failure(job("b"), "2", reason="the last"),
            success(job("a"), "3"),
        )
    state = state_of(prepared)
    plan = planned(prepared, state)
    assert state.damaged == ()
    assert [done.eval for done in plan.done] == ["a"]
    assert plan.why == {
        job("a").key: "finished 2025-01-01T00:00:04Z on host, attempt 1: 3",
        job("b").key: "failed 2 times, last: the last",
    }
    over = ready(msgspec.structs.replace(options, resume=False), host)
    plan = planned(over, state_of(over))
    assert plan.done == ()
    assert set(plan.why.values()) == {"not run yet"}


@pytest.mark.docker
def test_variables_are_handed_in_by_name(options: RunOptions, host: Host, tmp_path: Path) -> None:
    """Settings hold the names alone; the values of a rule's names are looked up for the run."""
    rules = put(tmp_path / "own", "containers", "a: {env: [MINE]}")
    asked = msgspec.structs.replace(options, registry_paths=(str(rules),), env=("NAMED",))
    there = changed(host, {"NAMED": "1", "MINE": "2", "OTHER": "3"})
    prepared = ready(asked, there)
    plan = planned(prepared, state_of(prepared))
    assert [job.settings.env for job in plan.jobs] == [
        ("NAMED", "OPENAI_API_KEY", "MINE"),
        ("NAMED", "OPENAI_API_KEY"),
    ]
    values = environment_for(plan, prepared, there)
    assert {"NAMED": "1", "MINE": "2"}.items() <= values.items()
    assert "OTHER" not in values
    with pytest.raises(UsageError, match="the variable MINE, which a file in containers/ names"):
        environment_for(plan, prepared, changed(there, {"NAMED": "1"}))


@pytest.mark.docker
def test_what_any_rule_hands_in_is_kept_out(
    options: RunOptions, host: Host, tmp_path: Path
) -> None:
    """Evals that are finished or not selected have had it, too; what is not set is no error."""
    rules = put(tmp_path / "own", "containers", "a: {env: [MINE, UNSET]}\nb: {env: [NAMED]}")
    asked = msgspec.structs.replace(
        options, registry_paths=(str(rules),), env=("NAMED",), select=("b",)
    )
    there = changed(host, {"NAMED": "1", "MINE": "2", "OTHER": "3"})
    values = secret_variables(ready(asked, there), there)
    assert {"NAMED": "1", "MINE": "2"}.items() <= values.items()
    assert not {"UNSET", "OTHER"} & values.keys()


@pytest.mark.docker
def test_an_engine_that_answers_is_kept(options: RunOptions, host: Host) -> None:
    """The run uses the one that its preparation has talked to."""
    prepared = ready(options, host)
    assert isinstance(prepared.engine, Engine)
    assert prepared.image.name == DEFAULT_IMAGE


@pytest.mark.parametrize("below", [".", "progress", "a/b"])
def test_a_progress_directory_that_evals_could_read_is_refused(
    options: RunOptions, host: Host, tmp_path: Path, below: str
) -> None:
    """It has the results of the others, their folders, and the records."""
    registry = put(tmp_path / "registry", "evals", "a: {class: b:C}")
    own = msgspec.structs.replace(
        options, registry_paths=(str(registry),), progress_dir=registry / below
    )
    with pytest.raises(UsageError, match="which every eval can read; choose another --progress"):
        ready(own, host)
    (host.home / ".evals").mkdir(parents=True)
    below_home = msgspec.structs.replace(options, progress_dir=host.home / ".evals/progress")
    with pytest.raises(UsageError, match="which every eval can read"):
        ready(below_home, host)


def test_a_link_into_a_registry_folder_is_seen_through(
    options: RunOptions, host: Host, tmp_path: Path
) -> None:
    """What counts is where the files lie."""
    registry = put(tmp_path / "registry", "evals", "a: {class: b:C}")
    (registry / "progress").mkdir()
    (tmp_path / "progress").symlink_to(registry / "progress")
    with pytest.raises(UsageError, match="which every eval can read"):
        ready(msgspec.structs.replace(options, registry_paths=(str(registry),)), host)


def test_what_is_on_record_as_a_success_does_not_run_again_for_a_damaged_line(
    options: RunOptions, host: Host
) -> None:
    """The attempts say so, too; where the line was taken out on purpose, it runs again."""
    prepared = ready(options, host)
    first = planned(prepared, state_of(prepared)).todo[0]
    with AttemptsFile(prepared.layout.attempts) as file:
        file.add_records(success(first))
    assert first.command in [each.command for each in planned(prepared, state_of(prepared)).todo]
    prepared.layout.progress.write_text('["oaieval", "dum\n')
    state = state_of(prepared)
    plan = planned(prepared, state)
    assert first.command in [each.command for each in plan.done]
    assert "runs again, unless its success is in the attempts file" in state.damaged[0]


@pytest.fixture
def in_dollars(options: RunOptions, tmp_path: Path) -> RunOptions:
    """A run with a budget in dollars, and a price of another model."""
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {other: {input: 2, output: 8}}")
    return msgspec.structs.replace(options, model="m", budget=Budget(5, "usd"), prices=prices)


@pytest.mark.docker
def test_a_budget_in_dollars_needs_a_price_of_the_model(in_dollars: RunOptions, host: Host) -> None:
    """Before any container starts."""
    with_key = changed(host, {"OPENAI_API_KEY": "sk-1"})
    with pytest.raises(UsageError, match="no price is known for `m`"):
        ready(in_dollars, with_key)
    ready(msgspec.structs.replace(in_dollars, model="other"), with_key)


@pytest.mark.docker
def test_a_model_that_nobody_is_asked_for_needs_no_price(
    in_dollars: RunOptions, host: Host
) -> None:
    """What a registry defines asks for other names, `dummy` for none, and none without a route."""
    with_key = changed(host, {"OPENAI_API_KEY": "sk-1"})
    ready(in_dollars, with_key, msgspec.structs.replace(HERE, defines_model=True))
    ready(msgspec.structs.replace(in_dollars, model="dummy"), with_key)
    ready(in_dollars, host)


@pytest.mark.docker
@pytest.mark.parametrize(
    ("model", "gateway", "environ", "warned"),
    [
        ("m", True, {}, "so that the gateway can ask none"),
        ("m", True, {"ANTHROPIC_API_KEY": "k"}, ""),
        ("m", False, {"ANTHROPIC_API_KEY": "k"}, "oaieval asks for it when it starts"),
        ("m", False, {"OPENAI_API_KEY": "k"}, ""),
        ("dummy", True, {}, ""),
        ("dummy", False, {}, ""),
    ],
)
def test_a_run_warns_of_missing_keys(
    options: RunOptions,
    host: Host,
    model: str,
    environ: dict[str, str],
    warned: str,
    *,
    gateway: bool,
) -> None:
    """With the gateway, those of any provider will do; without it, oaieval asks for OpenAI's."""
    asked = msgspec.structs.replace(options, model=model, gateway=gateway)
    warnings = "\n".join(ready(asked, changed(host, environ)).warnings)
    assert warned in warnings
    assert ("is set, so" in warnings or "is not set" in warnings) == bool(warned)


AZURE = {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "http://azure"}


@pytest.mark.docker
@pytest.mark.parametrize(
    ("model", "environ", "unanswered"),
    [
        ("m", {}, ["m"]),
        ("m", {"OPENAI_API_KEY": "k"}, []),
        ("m", {"ANTHROPIC_API_KEY": "k"}, ["m"]),
        ("m", {"TOGETHER_API_KEY": "k"}, ["m"]),
        ("m", AZURE, ["m"]),
        ("m,dummy,n", AZURE, ["m", "n"]),
        ("m", {**AZURE, "OPENAI_BASE_URL": "http://here/v1"}, []),
        ("claude-3", {"ANTHROPIC_API_KEY": "k"}, []),
        ("claude-3,m", {"ANTHROPIC_API_KEY": "k"}, ["m"]),
        ("together/m", {"TOGETHER_API_KEY": "k"}, []),
        ("dummy", {"ANTHROPIC_API_KEY": "k"}, []),
        ("dummy", {}, []),
    ],
)
def test_a_run_knows_for_which_models_nobody_answers(
    options: RunOptions, host: Host, model: str, environ: dict[str, str], unanswered: list[str]
) -> None:
    """Those that evals ask OpenAI's API for; a registry's models ask others, if anybody."""
    asked = msgspec.structs.replace(options, model=model)
    assert ready(asked, changed(host, environ)).models_without_provider == unanswered
    defined = msgspec.structs.replace(HERE, defines_model=True)
    assert ready(asked, changed(host, environ), defined).models_without_provider == []
    openai = msgspec.structs.replace(asked, upstreams=(Upstream("openai", "http://here/v1"),))
    assert ready(openai, changed(host, environ)).models_without_provider == []
    without = msgspec.structs.replace(asked, gateway=False)
    assert ready(without, changed(host, environ)).models_without_provider == []


@pytest.mark.docker
@pytest.mark.parametrize("gateway", [True, False])
def test_without_a_network_no_proxy_is_variables_for_containers(
    options: RunOptions, host: Host, tmp_path: Path, *, gateway: bool
) -> None:
    """Its login would be for nothing; the gateway keeps it, as do evals with a network."""
    rules = put(tmp_path / "own", "containers", "a: {network: none, env: [ALL_PROXY]}")
    asked = msgspec.structs.replace(options, registry_paths=(str(rules),), gateway=gateway)
    proxy = dict.fromkeys(("HTTPS_PROXY", "http_proxy", "ALL_PROXY"), "http://u:secret@proxy")
    prepared = ready(asked, changed(host, {**proxy, "no_proxy": "intranet"}))
    without, with_network = (set(prepared.settings_for(each).env) for each in ("a", "b"))
    assert not proxy.keys() & without
    assert "no_proxy" in without
    assert {"HTTPS_PROXY", "http_proxy"} <= with_network
    assert prepared.environment["HTTPS_PROXY"] == "http://u:secret@proxy"


@pytest.mark.parametrize("value", ["x=5=6", "x = 5 = 6", "x==6", "=5=6"])
def test_a_rate_with_two_limits_is_refused(value: str) -> None:
    """It is a slip, and no model is called `x=5`; some have a `=` elsewhere."""
    with pytest.raises(UsageError, match="must be a number above zero, or MODEL=NUMBER"):
        parse_rate(value)
    assert parse_rate("org/a=b:1=20") == Rate("org/a=b:1", 20)


@pytest.fixture
def b_needs_ml(monkeypatch: pytest.MonkeyPatch, tag: str) -> str:
    """The eval `b` needs the extra image `ml`, whose name this gives."""
    monkeypatch.setattr("runner.run.prepare.by_image", lambda _: {"ml": ["b"]})
    monkeypatch.setattr("runner.run.prepare.extra_image", lambda _: tag)
    return tag


@pytest.mark.docker
def test_an_eval_that_needs_an_extra_image_gets_it(
    options: RunOptions, host: Host, tmp_path: Path, b_needs_ml: str, eval_image: Image
) -> None:
    """Where it is built; whoever chooses an image, by rule or by option, gets that one."""
    repository, _, version = b_needs_ml.partition(":")
    engine_api().tag(eval_image.id, repository, version)
    prepared = ready(options, host)
    images = [prepared.settings_for(name).image for name in ("a", "b")]
    assert images == [DEFAULT_IMAGE, b_needs_ml]
    (warning,) = [line for line in prepared.warnings if b_needs_ml in line]
    assert f"is not built on the {DEFAULT_IMAGE} that is here" in warning

    own = put(tmp_path / "own", "containers", "b: {image: mine}")
    ruled = ready(msgspec.structs.replace(options, registry_paths=(str(own),)), host)
    assert ruled.settings_for("b").image == "mine"
    chosen = ready(msgspec.structs.replace(options, explicit=frozenset({"image"})), host)
    assert chosen.settings_for("b").image == DEFAULT_IMAGE
    assert not [line for line in chosen.warnings if b_needs_ml in line]


@pytest.mark.docker
def test_without_the_extra_image_an_eval_has_the_usual_one(
    options: RunOptions, host: Host, b_needs_ml: str
) -> None:
    """What it lacks is said before anything starts."""
    prepared = ready(options, host)
    assert prepared.settings_for("b").image == DEFAULT_IMAGE
    assert not [line for line in prepared.warnings if b_needs_ml in line]


def test_a_warning_is_not_repeated_by_the_error_that_says_the_same() -> None:
    """Others stand before it."""
    error = UsageError("oaieval refuses that", "oaieval's is `--b`")
    with (
        pytest.raises(UsageError) as caught,
        with_warnings(["`--c`; oaieval's is `--b`", "odd; look"]),
    ):
        raise error
    assert caught.value.__notes__ == ["warning: odd; look"]
