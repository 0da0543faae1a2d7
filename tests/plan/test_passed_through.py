import pytest

from runner.errors import UsageError
from runner.plan.grammar import OAIEVAL, check_passed_through, seed_of

OURS = ("--jobs", "--timeout", "--dry-run", "--select", "--resume", "--no-resume", "--shard", "-e")
KEY = "sk-" + "a1" * 12


@pytest.mark.parametrize(
    "args",
    [
        ["--record_path", "x"],
        ["--record_path=x"],
        ["--record_p", "x"],
        ["--seed", "1", "--rec=x"],
    ],
)
def test_a_record_path_is_refused_with_the_reason(args: list[str]) -> None:
    """In any spelling that oaieval takes for it."""
    with pytest.raises(UsageError) as caught:
        check_passed_through(args)
    assert str(caught.value) == (
        "--record_path cannot be passed through: every eval would write to that one file, over the "
        "others' records; leave it out, each eval's log is kept below evallogs/"
    )


@pytest.mark.parametrize(
    "args",
    [
        [KEY],
        ["--user", KEY],
        [f"--completion_args=api_key={KEY}"],
        ["--completion_args", "temperature=0,api_key=abc123"],
        ["--completion_args=api_key=abc123,temperature=0"],
        ["--completion_args", "token=abc123"],
        ["--api-key", "abc123"],
        ["--openai_api_key=abc123"],
        ["--x", "sk-ant-api03-" + "abcdefgh" * 3],
        ["--x", "hf_" + "a" * 34],
        ["--x", "AKIA" + "A1B2" * 4],
        ["--x", "ghp_" + "a" * 36],
        ["--user", "correct horse"],
        ["--x=pre-hush-hush-key-post"],
        ["--x=silence-please"],
        ["--" + KEY],
    ],
)
def test_what_looks_like_a_secret_is_refused_and_not_shown(args: list[str]) -> None:
    """The message says how to pass it, and holds no part of it."""
    variables = {"MY_PHRASE": "correct horse", "SOME_KEY": "hush-hush-key"}
    variables |= {"EVALS_API_KEY": "silence-please"}
    with pytest.raises(UsageError, match="`-e NAME`") as caught:
        check_passed_through(args, variables=variables)
    for secret in (KEY, "abc123", "sk-", "hf_", "AKIA", "ghp_", "horse", "hush", "silence"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        ([KEY], "1"),
        (["--x", "--openai_api_key=abc123"], "2 (`--openai_api_key`)"),
        (["--completion_args", "temperature=0,api_key=abc123"], "2"),
    ],
)
def test_a_secret_is_told_by_its_place_and_its_option(args: list[str], shown: str) -> None:
    """The rest of the message says what to do instead."""
    with pytest.raises(UsageError) as caught:
        check_passed_through(args)
    assert str(caught.value) == (
        f"passed-through argument {shown} looks like it holds a secret, which progress files and "
        "logs would keep; put it into an environment variable and pass that by name, with `-e NAME`"
    )


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--max_samples", "5", "--completion_args", "max_tokens=100,eos_token=x"],
        ["--completion_args", "api_key=EMPTY,api_base=http://localhost:8000/v1"],
        ["--user", "me", "--extra_eval_params", "max_token=5"],
        ["--x", "http://localhost:8000/v1"],
        ["--log_to_file", "/tmp/task-sk-learn", "--seed", "20220722"],
        ["--x", "gpt-4-turbo", "--y", "short"],
        ["--re", "x", "--records", "x", "--r"],
        ["abc123", "--api_key"],
        ["--", "--jobs", "--j"],
    ],
)
def test_common_arguments_pass(args: list[str]) -> None:
    """Public variables, short values, placeholders and numbers of tokens are no secrets."""
    variables = {
        "OPENAI_BASE_URL": "http://localhost:8000/v1",
        "EVALS_THREADS": "20220722",
        "MY_KEY": "short",
    }
    assert check_passed_through(args, variables=variables, ours=OURS) == []


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--job", "--jobs"),
        ("--job=3", "--jobs"),
        ("--timeot", "--timeout"),
        ("--dry_run", "--dry-run"),
        ("--resme", "--resume"),
        ("--shards", "--shard"),
        ("--sel", "--select"),
    ],
)
def test_an_option_close_to_one_of_ours_is_a_warning(option: str, meant: str) -> None:
    """It is passed on nevertheless: another program may know it."""
    warnings = check_passed_through([option], ours=OURS)
    assert warnings == [
        f"`{option.partition('=')[0]}` is passed on to every eval; did you mean `{meant}`?"
    ]


@pytest.mark.parametrize("option", sorted(OAIEVAL - {"--registry_path"}))
def test_oaievals_own_options_are_no_slips(option: str) -> None:
    """Neither alone nor with a value."""
    assert check_passed_through([option, f"{option}=1"], ours=OURS) == []


@pytest.mark.parametrize(
    ("option", "meant"),
    [("--max_sample", "--max_samples"), ("--see=3", "--seed"), ("--no-cach", "--no-cache")],
)
def test_a_shortened_option_of_oaievals_is_a_warning(option: str, meant: str) -> None:
    """It is passed on as it is, and the record tells it from the one that it stands for."""
    short = option.partition("=")[0]
    (warning,) = check_passed_through([option], ours=OURS)
    assert warning == (
        f"oaieval takes `{short}` for `{meant}`, but it counts as another argument than that here; "
        f"write `{meant}`"
    )


@pytest.mark.parametrize("option", ["--http", "--no-", "--dry-ru", "--"])
def test_what_may_be_several_of_oaievals_is_left_to_its_parser(option: str) -> None:
    """It refuses that with the candidates."""
    assert check_passed_through([option], ours=OURS) == []


def test_a_registry_path_that_no_container_has_is_a_warning() -> None:
    """After `--` it is only passed on."""
    (warning,) = check_passed_through(["--registry_path", "r"])
    assert warning == (
        "`--registry_path` after `--` is only passed on, and no container has that folder; "
        "put it before the `--`"
    )


def test_the_spelling_of_oaieval_is_told() -> None:
    """Its own options have underscores where others have hyphens."""
    (warning,) = check_passed_through(["--max-samples", "3"], ours=OURS)
    assert warning == "`--max-samples` is passed on to every eval; oaieval's is `--max_samples`"


@pytest.mark.parametrize(
    ("arguments", "seed"),
    [
        ((), "20220722"),
        (("--seed", "3"), "3"),
        (("--seed=3", "--see", "4"), "4"),
        (("--se=5", "--max_samples", "4"), "5"),
        (("--seeds", "6"), "20220722"),
        (("--", "-s", "6"), "20220722"),
        (("--seed",), ""),
    ],
)
def test_the_seed_is_read_as_oaieval_does(arguments: tuple[str, ...], seed: str) -> None:
    """The last one counts, and its name may be cut; oaieval says so if the number is missing."""
    assert seed_of(arguments) == seed
