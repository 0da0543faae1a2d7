import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import UsageError
from runner.plan.grammar import Split, get_parser, split

OURS = {"--jobs": 1, "-j": 1, "-e": 1, "--env": 1, "--dry-run": 0, "--exclude": 1, "--retries": 1}

MINE = st.sampled_from(
    [("--jobs", "3"), ("--jobs=3",), ("-e", "NAME"), ("--dry-run",), ("-j", "--foo"), ("--env=A",)]
)
OTHERS = st.lists(
    st.sampled_from(
        [
            *("m", "s", "x", "--foo", "--foo=1", "--res", "--no-resume", "--exit-on-error"),
            *("--registry_path=p", "--max_samples", "5", "--re", "-x", "--no-e", "--dry", "--job"),
        ]
    ),
    max_size=8,
)


def outcome(argv: list[str]) -> Split | str:
    """What a command line comes to, an error's message included."""
    try:
        return split(argv, OURS)
    except UsageError as error:
        return str(error)


@given(OTHERS, st.lists(st.tuples(st.integers(0, 8), MINE), max_size=4), OTHERS)
def test_our_options_stand_anywhere_before_the_dashes(
    others: list[str], mine: list[tuple[int, tuple[str, ...]]], after: list[str]
) -> None:
    """Wherever ours are put among the rest, the rest is understood as without them."""
    end = ["--", *after] if after else []
    groups: list[tuple[str, ...]] = [(token,) for token in others]
    for place, option in mine:
        groups.insert(place, option)
    mixed = outcome([token for group in groups for token in group] + end)
    plain = outcome(others + end)
    if isinstance(mixed, str) or isinstance(plain, str):
        assert mixed == plain
        return
    taken = tuple(
        token for group in groups if group in {each for _, each in mine} for token in group
    )
    assert mixed.ours == taken
    assert (mixed.model, mixed.eval_set, mixed.passed_through) == (
        plain.model,
        plain.eval_set,
        plain.passed_through,
    )
    assert (mixed.resume, mixed.exit_on_error) == (plain.resume, plain.exit_on_error)


@given(OTHERS)
def test_both_front_ends_agree(others: list[str]) -> None:
    """Without options of ours, `evalset run` reads a command line as the drop-in does."""
    argv = ["m", "s", *(each for each in others if each != "--re")]
    args, unknown = get_parser().parse_known_args(argv)
    found = split(argv, OURS)
    assert found.passed_through == tuple(unknown)
    assert (found.model, found.eval_set) == (args.model, args.eval_set)
    assert found.registry_paths == tuple(args.registry_path or ())
    assert (found.resume is not False) == args.resume
    assert (found.exit_on_error is not False) == args.exit_on_error


def test_a_full_command_line_is_taken_apart() -> None:
    """Names, registry paths, our options and the rest each go to their place, in order."""
    argv = ["-e", "KEY", "m", "--registry-path", "a", "s", "--max_samples", "5", "--jobs=2"]
    found = split([*argv, "--registry-path=b", "--no-res", "--dry-run"], OURS)
    assert found == Split(
        model="m",
        eval_set="s",
        registry_paths=("a", "b"),
        resume=False,
        exit_on_error=None,
        ours=("-e", "KEY", "--jobs=2", "--dry-run"),
        passed_through=("--max_samples", "5"),
    )


def test_what_stands_after_the_dashes_is_passed_on() -> None:
    """An option of ours, or of upstream's, after `--` belongs to the eval's own program."""
    found = split(["m", "s", "--", "--dry-run", "--jobs", "2", "--resume"], OURS)
    assert found.ours == ()
    assert found.resume is None
    assert found.passed_through == ("--dry-run", "--jobs", "2", "--resume")


@pytest.mark.parametrize(
    "before",
    [["--max_samples", "5"], ["--no-resume"], ["--registry_path", "r"], ["--jobs", "2"], ["more"]],
)
def test_the_dashes_are_dropped_wherever_they_stand(before: list[str]) -> None:
    """What stands before `--` does not make it an argument of the evals."""
    found = split(["m", "s", *before, "--", "--dry-run", "--", "x"], OURS)
    assert found.passed_through[-3:] == ("--dry-run", "--", "x")
    assert found.passed_through.count("--") == 1


def test_further_dashes_right_behind_the_first_are_passed_on() -> None:
    """Only the first is the runner's."""
    assert split(["m", "s", "--", "--", "x"], OURS).passed_through == ("--", "x")
    assert split(["m", "s", "-x", "--", "--", "x"], OURS).passed_through == ("-x", "--", "x")


def test_missing_names_are_taken_from_after_the_dashes() -> None:
    """As argparse has it: positionals may follow `--`."""
    found = split(["m", "--", "s", "--dry-run"], OURS)
    assert (found.model, found.eval_set, found.passed_through) == ("m", "s", ("--dry-run",))


def test_our_options_count_in_full_only() -> None:
    """A shortened one goes to the evals: abbreviations are upstream's."""
    found = split(["m", "s", "--job", "3", "--dry", "--exclud", "x"], OURS)
    assert found.ours == ()
    assert found.passed_through == ("--job", "3", "--dry", "--exclud", "x")


@pytest.mark.parametrize("argv", [["m", "s", "--jobs"], ["m", "s", "--jobs", "--", "x"]])
def test_a_missing_value_of_ours_is_refused(argv: list[str]) -> None:
    """What follows `--` is no value, and neither is an option that comes from elsewhere."""
    with pytest.raises(UsageError, match="option --jobs needs a value"):
        split(argv, OURS)


@pytest.mark.parametrize("argv", [["-h"], ["m", "--help"], ["m", "s", "--he"]])
def test_help_is_ours_to_give(argv: list[str]) -> None:
    """Help is asked for without MODEL and EVAL_SET too, as argparse has it."""
    assert split(argv, OURS).ours == ("--help",)


def test_where_help_is_asked_for_first_there_are_no_names() -> None:
    """As there are none where it is all that was asked for."""
    found = split(["-h", "m", "s"], OURS)
    assert (found.model, found.eval_set) == ("", "")


def test_a_registry_path_may_hold_the_options_name() -> None:
    """Only the option itself is spelled anew."""
    path = "x=--registry-path"
    found = split(["m", "s", f"--registry-path={path}", "--registry-path", path], OURS)
    assert found.registry_paths == (path, path)


def test_each_argument_of_the_drop_in_has_a_line_of_help() -> None:
    """`oaievalset --help` prints them, below what the program does."""
    parser = get_parser()
    assert parser.description
    assert all(action.help for action in parser._actions)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ([], "the following arguments are required: model, eval_set"),
        (["m"], "the following arguments are required: eval_set"),
        (["m", "s", "--re"], "ambiguous option: --re could match --registry_path, --resume"),
        (["m", "s", "--registry_path"], "argument --registry_path: expected one argument"),
    ],
)
def test_what_argparse_refuses_is_a_usage_error(argv: list[str], complaint: str) -> None:
    """The message is argparse's, on one line, with where to look."""
    with pytest.raises(UsageError) as caught:
        split(argv, OURS)
    assert str(caught.value) == f"{complaint}; `evalset run --help` shows the form"
