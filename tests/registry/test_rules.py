import pytest

from runner.errors import UsageError
from runner.model import ContainerSettings
from runner.registry.entries import RegistryFile
from runner.registry.rules import ContainerRule, parse_rules, settings_for

DEFAULTS = ContainerSettings(
    image="evals",
    memory=2 * 1024**3,
    cpus=None,
    pids_limit=512,
    gpus=None,
    timeout=3600,
    network="bridge",
    env=("OPENAI_API_KEY",),
)


def rules(text: str) -> tuple[ContainerRule, ...]:
    return parse_rules([RegistryFile(path="c.yaml", kind="containers", text=text)])


def test_every_setting_is_read() -> None:
    """Amounts and durations become bytes and seconds."""
    (rule,) = rules(
        "a*: {image: i:1, memory: 4g, cpus: 2, pids_limit: 64, gpus: 1, timeout: 1h30m,"
        " tmp_limit: 3m, network: none, env: [HF_TOKEN]}"
    )
    assert settings_for("abc", defaults=DEFAULTS, rules=[rule]) == ContainerSettings(
        image="i:1",
        memory=4 * 1024**3,
        cpus=2.0,
        pids_limit=64,
        gpus="1",
        timeout=5400,
        tmp_limit=3 * 1024**2,
        network="none",
        env=("OPENAI_API_KEY", "HF_TOKEN"),
    )


def test_the_least_number_of_processes_is_one() -> None:
    """A program that starts no other needs no more."""
    assert settings_for("a", defaults=DEFAULTS, rules=rules("a: {pids_limit: 1}")).pids_limit == 1


def test_later_patterns_override_earlier_ones_key_by_key() -> None:
    """What a later rule does not speak of stays as the earlier one set it."""
    found = settings_for(
        "a.dev.v0",
        defaults=DEFAULTS,
        rules=rules(
            "'a*': {memory: 1g, network: none}\n'*.v0': {memory: 3g, gpus: all}\nb: {cpus: 9}"
        ),
    )
    assert (found.memory, found.network, found.gpus) == (3 * 1024**3, "none", "all")
    assert found.cpus is None
    assert found.env == DEFAULTS.env


def test_the_command_line_wins_over_rules() -> None:
    """A field that was given explicitly keeps its value."""
    found = settings_for(
        "a",
        defaults=DEFAULTS,
        rules=rules("a: {memory: 1g, cpus: 1}"),
        explicit=frozenset({"memory"}),
    )
    assert (found.memory, found.cpus) == (DEFAULTS.memory, 1.0)


def test_an_eval_that_no_rule_matches_gets_the_defaults() -> None:
    """The very same value, so that thousands of evals cost nothing."""
    assert settings_for("b", defaults=DEFAULTS, rules=rules("a: {cpus: 1}")) is DEFAULTS


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: {memmory: 1g}", "c.yaml: `a` has the unknown key `memmory`; did you mean `memory`"),
        ("a: {zzz: 1}", "c.yaml: `a` has the unknown key `zzz`; known are image, memory"),
        ("a: {memory: lots}", "c.yaml: `a`: `memory`: memory `lots` is not an amount"),
        ("a: {memory: 1m}", "less than Docker's minimum"),
        (
            "a: {memory: [1]}",
            "c.yaml: `a`: `memory`: memory `[1]` is not an amount",
        ),
        ("a: {cpus: 0}", "c.yaml: `a`: `cpus`: `0` is not a number of CPUs"),
        ("a: {cpus: .inf}", "c.yaml: `a`: `cpus`: "),
        ("a: {cpus: two}", "c.yaml: `a`: `cpus`: `two` is not a number of CPUs"),
        (
            "a: {tmp_limit: [1]}",
            "c.yaml: `a`: `tmp_limit`: size `[1]` is not an amount",
        ),
        ("a: {tmp_limit: 1k}", "c.yaml: `a`: `tmp_limit`: size `1k` is too little"),
        ("a: {pids_limit: 0}", "c.yaml: `a`: `pids_limit`: `0` is not a number of processes above"),
        ("a: {pids_limit: true}", "c.yaml: `a`: `pids_limit`: "),
        ("a: {gpus: some}", "c.yaml: `a`: `gpus`: GPUs `some` must be"),
        ("a: {gpus: true}", "c.yaml: `a`: `gpus`: GPUs `True` must be"),
        ("a: {gpus: ALL}", "c.yaml: `a`: `gpus`: GPUs `ALL` must be"),
        ("a: {timeout: soon}", "c.yaml: `a`: `timeout`: duration `soon`"),
        ("a: {timeout: null}", "c.yaml: `a`: `timeout`: duration `None` must be like 90s"),
        ("a: {network: '--x'}", "c.yaml: `a`: `network`: `--x` is not a name"),
        ("a: {image: 5}", "c.yaml: `a`: `image`: "),
        ("a: {env: HF_TOKEN}", "c.yaml: `a`: `env`: must be a list"),
        ("a: 5", "c.yaml: `a` must be a mapping of settings"),
        ("- a", "c.yaml, line 1: expected a mapping of names"),
    ],
)
def test_an_unknown_key_or_a_bad_value_is_refused(text: str, complaint: str) -> None:
    """The message names file, pattern and key."""
    with pytest.raises(UsageError) as caught:
        rules(text)
    assert str(caught.value).startswith(complaint) or complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_among_environment_names_is_refused_and_not_shown() -> None:
    """`NAME=value` in a file would be a secret in a repository."""
    with pytest.raises(UsageError) as caught:
        rules("a: {env: [OK, HF_TOKEN=hush]}")
    assert str(caught.value) == (
        "c.yaml: `a`: `env`: entry 2 is not the name of an environment variable; values are taken "
        "from the host's environment, never from a file"
    )


def test_an_environment_name_may_be_in_small_letters() -> None:
    """As those of proxies are."""
    (rule,) = rules("a: {env: [https_proxy, _x, A1]}")
    assert rule.env == ("https_proxy", "_x", "A1")


def test_a_limit_may_be_lifted() -> None:
    """No value where there may be none; a later rule takes away what an earlier one set."""
    found = settings_for(
        "a", defaults=DEFAULTS, rules=rules("'*': {cpus: 2, gpus: all}\na: {cpus: null, gpus: ~}")
    )
    assert (found.cpus, found.gpus) == (None, None)
