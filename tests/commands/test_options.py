from pathlib import Path

import msgspec
import pytest

from runner.commands.run import command, options_of
from runner.options import RunOptions
from runner.registry.rules import ContainerRule, settings_for
from runner.units import Budget, Rate, Upstream

RULE = ContainerRule(pattern="*", settings={"memory": 300, "timeout": 30.0}, env=())


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a configuration, and an environment without options."""
    monkeypatch.chdir(tmp_path)
    for param in command.params:
        if isinstance(param.envvar, str):
            monkeypatch.delenv(param.envvar, raising=False)
    return tmp_path


def options(*arguments: str) -> RunOptions:
    """What a command line comes to."""
    return options_of(command.make_context("run", ["dummy", "test", *arguments]))


def test_defaults_are_those_of_the_help() -> None:
    """Upstream's where upstream has any."""
    found = options()
    assert (found.resume, found.exit_on_error, found.jobs) == (True, True, None)
    assert (found.run_command, found.progress_dir) == ("oaieval", Path("progress"))
    assert (found.settings.timeout, found.settings.memory) == (3600, 4 * 2**30)
    assert found.explicit == frozenset()


def test_the_command_line_wins_over_everything(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Command line, then environment, then configuration file, then default."""
    assert options().retries == 2
    (empty_folder / "evalset.toml").write_text("retries = 3\n")
    assert options().retries == 3
    monkeypatch.setenv("EVALSET_RETRIES", "4")
    assert options().retries == 4
    assert options("--retries", "5").retries == 5


def test_a_rule_for_an_eval_yields_to_the_command_line_only(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is more particular than what environment and file say of all evals."""
    (empty_folder / "evalset.toml").write_text('memory = "20m"\n')
    monkeypatch.setenv("EVALSET_TIMEOUT", "20s")

    def settings(*arguments: str) -> tuple[int, float]:
        found = options(*arguments)
        of_eval = settings_for("a", defaults=found.settings, rules=[RULE], explicit=found.explicit)
        return of_eval.memory, of_eval.timeout

    assert settings() == (300, 30)
    assert settings("--memory", "40m") == (40 * 2**20, 30)
    assert settings("--memory", "40m", "--timeout", "40s") == (40 * 2**20, 40)


def test_flags_can_be_set_and_unset_anywhere(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both forms of a flag work in each place."""
    (empty_folder / "evalset.toml").write_text("exit-on-error = false\nresume = false\n")
    assert (options().exit_on_error, options().resume) == (False, False)
    monkeypatch.setenv("EVALSET_EXIT_ON_ERROR", "1")
    assert (options().exit_on_error, options().resume) == (True, False)
    assert options("--no-exit-on-error", "--resume").exit_on_error is False
    assert options("--no-exit-on-error", "--resume").resume is True


def test_options_that_may_be_repeated_can_be_given_anywhere(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list in a file, a path list or words in the environment, several on the command line."""
    (empty_folder / "evalset.toml").write_text('select = ["a*", "b*"]\nexclude = "c"\n')
    assert (options().select, options().exclude) == (("a*", "b*"), ("c",))
    monkeypatch.setenv("EVALSET_ENV", "HF_TOKEN MY_KEY")
    monkeypatch.setenv("EVALSET_REGISTRY_PATH", "one:two")
    assert options().env == ("HF_TOKEN", "MY_KEY")
    assert options().registry_paths == ("one", "two")
    assert options("-e", "A", "--env", "B", "--registry_path", "x", "--registry-path=y").env == (
        "A",
        "B",
    )
    assert options("--registry_path", "x", "--registry-path=y").registry_paths == ("x", "y")


def test_what_models_may_cost_can_be_given_anywhere(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rates and upstreams may be several; a gateway is used unless told otherwise."""
    assert (options().budget, options().prices, options().rpm, options().tpm) == (
        None,
        None,
        (),
        (),
    )
    assert (options().gateway, options().upstreams) == (True, ())
    (empty_folder / "evalset.toml").write_text(
        'budget = "5usd"\nprices = "p.yaml"\nrpm = 100\ntpm = [9000, "m=8000"]\ngateway = false\n'
        'upstream = "groq=https://api.groq.com/openai/v1"\n'
    )
    found = options()
    assert (found.budget, found.prices) == (Budget(5, "usd"), Path("p.yaml"))
    assert (found.rpm, found.tpm) == ((Rate("", 100),), (Rate("", 9000), Rate("m", 8000)))
    assert not found.gateway
    assert found.upstreams == (Upstream("groq", "https://api.groq.com/openai/v1"),)
    monkeypatch.setenv("EVALSET_RPM", "5 m=4")
    monkeypatch.setenv("EVALSET_UPSTREAM", "a=http://a b=http://b")
    monkeypatch.setenv("EVALSET_BUDGET", "2mtok")
    found = options("--gateway", "--tpm", "m=1", "--tpm", "n=2")
    assert (found.budget, found.gateway) == (Budget(2_000_000, "tok"), True)
    assert (found.rpm, found.tpm) == ((Rate("", 5), Rate("m", 4)), (Rate("m", 1), Rate("n", 2)))
    assert found.upstreams == (Upstream("a", "http://a"), Upstream("b", "http://b"))
    assert not options("--no-gateway").gateway


@pytest.mark.parametrize(
    ("arguments", "passed_through"),
    [
        ([], ()),
        (
            ["--max_samples", "5", "--jobs", "2", "--user", "me"],
            ("--max_samples", "5", "--user", "me"),
        ),
        (["--", "--jobs", "2"], ("--jobs", "2")),
        (["--no-cache", "extra", "--no-resume"], ("--no-cache", "extra")),
        (["-x", "-5", ""], ("-x", "-5", "")),
    ],
)
def test_what_is_not_ours_is_passed_through_in_order(
    arguments: list[str], passed_through: tuple[str, ...]
) -> None:
    """By upstream's grammar; options of ours may stand between."""
    assert options(*arguments).passed_through == passed_through


def test_every_field_of_the_settings_can_be_given() -> None:
    """Each as `docker run` would take it."""
    found = options(
        *("--image", "i", "--memory", "1g", "--cpus", "1.5", "--pids-limit", "9"),
        *("--gpus", "all", "--timeout", "1h30m", "--network", "none"),
        *("--tmp-limit", "5g", "--code", "a", "--code", "b", "--requirements", "r.txt"),
    )
    assert msgspec.structs.asdict(found.settings) == {
        "image": "i",
        "memory": 2**30,
        "cpus": 1.5,
        "pids_limit": 9,
        "gpus": "all",
        "timeout": 5400.0,
        "network": "none",
        "tmp_limit": 5 * 2**30,
        "env": (),
        "code": ("a", "b"),
        "requirements": "r.txt",
    }
    assert found.explicit == frozenset(
        {
            *("image", "memory", "cpus", "pids_limit", "gpus", "timeout", "network", "tmp_limit"),
            *("code", "requirements"),
        }
    )
