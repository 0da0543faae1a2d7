"""Bad input gets one clear line, and nothing is lost; none of these needs an engine."""

import os
import socket
from pathlib import Path

import pytest

from tests.commands.conftest import NO_ENGINE, Here, only_line

RUN = ("run", "dummy", "mine", "--registry-path", "own")
KEY = "sk-" + "abcd1234" * 4


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("../up", "has `..` in it and would lead elsewhere"),
        ("a/../../up", "has `..` in it and would lead elsewhere"),
        ("/etc/x", "is an absolute path; leave out the `/`"),
        ("a\nb", "holds characters that cannot be printed"),
        ("a\x1b[2Jb", "holds characters that cannot be printed"),
        ("x" * 300, "is too long: 300 characters"),
        ("", "is empty; give one"),
    ],
)
@pytest.mark.parametrize("kind", ["model", "eval set"])
def test_a_name_that_leads_elsewhere_or_names_no_file(
    here: Here, kind: str, name: str, fact: str
) -> None:
    """The line shows the name such that it harms no terminal."""
    names = (name, "mine") if kind == "model" else ("dummy", name)
    line = here.refused("run", *names)
    assert line.startswith(f"the {kind}'s name ")
    assert fact in line
    assert line.isprintable()


@pytest.mark.parametrize("names", [("../up", "mine"), ("dummy", "/etc/x")])
@pytest.mark.parametrize("command", ["status", "logs", "reset"])
def test_every_command_checks_the_names(here: Here, command: str, names: tuple[str, str]) -> None:
    """Each of them makes a path of them."""
    line = here.refused(command, *names, *(["a"] if command == "logs" else []))
    assert "would lead elsewhere" in line or "is an absolute path" in line


@pytest.mark.parametrize(
    ("options", "fact", "cure"),
    [
        (["--jobs", "0"], "'--jobs': 0 is not in the range x>=1", "evalset run --help"),
        (["--jobs", "many"], "'many' is not a valid integer. (", "evalset run --help"),
        (["--jobs"], "option --jobs needs a value", "evalset run --help"),
        (["--retries", "-1"], "-1 is not in the range x>=0", "evalset run --help"),
        (["--shard", "4/3"], "shard `4/3`", "goes from 1 to N"),
        (["--shard", "0/3"], "shard `0/3`", "goes from 1 to N"),
        (["--shard", "a"], "shard `a`", "as 2/4 for the second of four"),
        (["--timeout", "0"], "duration `0`", "must be above zero"),
        (["--timeout", "soon"], "duration `soon`", "like 90s or 1h30m"),
        (["--memory", "lots"], "memory `lots`", "such as 512m or 4g"),
        (["--memory", "1k"], "memory `1k`", "less than Docker's minimum, 6m"),
        (["--cpus", "0"], "'--cpus': `0` is not a number of CPUs", "of at least 0.01"),
        (["--cpus", "inf"], "`inf` is not a number of CPUs", "of at least 0.01"),
        (["--pids-limit", "0"], "`0` is not a number of processes", "above zero"),
        (["--gpus", "some"], "GPUs `some`", "`all`, a number, or `device=ID,...`"),
        (["--junit", "own"], "--junit own is not a plain file", "name one that may be replaced"),
        (["--time-budget", "0"], "duration `0`", "must be above zero"),
        (["--time-budget", "soon"], "duration `soon`", "like 90s or 1h30m"),
        (["--grace", "soon"], "duration `soon`", "like 90s or 1h30m"),
        (["--budget", "5"], "budget `5` is not an amount", "such as 5usd, 500ktok or 2mtok"),
        (["--budget", "0usd"], "budget `0usd`", "must be above zero"),
        (["--budget", "-5usd"], "budget `-5usd`", "must be above zero"),
        (["--rpm", "0"], "rate `0`", "must be a number above zero, or MODEL=NUMBER"),
        (["--tpm", "gpt-4="], "rate `gpt-4=`", "must be a number above zero, or MODEL=NUMBER"),
        (["--upstream", "http://host"], "an upstream is NAME=URL", "give it like `groq="),
        (["--upstream", "a=host"], "address of the upstream `a`", "begin it with https:// or"),
        (["--upstream", "a=http://k@host"], "more than a host and a path", "key as A_API_KEY"),
        (["--json"], "--json needs --dry-run; add that", "evalset run --help"),
        (["--registry-path", "none"], "none does not exist", "check --registry-path"),
        (["--env-file", "none"], "--env-file none", "there is no such file"),
        (["-e", "UNSET_HERE"], "the variable UNSET_HERE is not set", "export it, or leave it out"),
        (["--record_path", "x"], "--record_path cannot be passed through", "below evallogs/"),
        (["--record_path=x"], "--record_path cannot be passed through", "below evallogs/"),
        (["--rec", "x"], "--record_path cannot be passed through", "below evallogs/"),
        (["--", "--record_path", "x"], "--record_path cannot be passed", "below evallogs/"),
    ],
)
def test_an_option_that_cannot_be(here: Here, options: list[str], fact: str, cure: str) -> None:
    """The line has what is wrong, and what would be right."""
    line = here.refused(*RUN, *options)
    assert fact in line
    assert cure in line


def test_a_value_on_the_command_line_is_refused_and_not_repeated(here: Here) -> None:
    """`-e NAME=value` shows a secret to every user of the host; the message does not, too."""
    line = here.refused(*RUN, "-e", "MY_KEY=hidden")
    assert line.startswith("--env takes a name alone, not MY_KEY=...")
    assert "export it, or use --env-file" in line
    assert "hidden" not in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["--api_key", KEY],
        [f"--completion_args=api_key={KEY}"],
        ["--", "--header", f"Authorization: Bearer {KEY}"],
        ["--completion_args", "password=correct-horse"],
    ],
)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(
    here: Here, arguments: list[str]
) -> None:
    """Progress files and logs would keep it."""
    line = here.refused(*RUN, *arguments)
    assert "looks like it holds a secret" in line
    assert "pass that by name, with `-e NAME`" in line
    assert KEY not in line
    assert "correct-horse" not in line


def test_the_value_of_a_variable_that_is_handed_in_is_a_secret(here: Here) -> None:
    """Whatever it looks like, the runner knows it."""
    line = here.refused(*RUN, "--user", "an-odd-looking-key", OPENAI_API_KEY="an-odd-looking-key")
    assert "looks like it holds a secret" in line
    assert "an-odd-looking-key" not in line


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"A=1\nB C=2\n", "line 2: expected NAME=value, NAME or # a comment"),
        (b"# fine\n\n=1\n", "line 3: expected NAME=value, NAME or # a comment"),
        (b"A=1\nB=\xff\n", "line 2: this is not UTF-8; save it as UTF-8"),
        (b"UNSET_HERE\n", "the variable UNSET_HERE is not set"),
    ],
)
def test_an_env_file_that_is_not_understood(here: Here, content: bytes, fact: str) -> None:
    """The line has the file and the line in it, and no value."""
    path = here.put("env", content)
    line = here.refused(*RUN, "--env-file", path.name)
    assert fact in line


def test_an_env_file_that_is_a_folder(here: Here) -> None:
    """The line says what to do."""
    assert "it is a folder; move it away" in here.refused(*RUN, "--env-file", "own", code=3)


@pytest.mark.parametrize("name", ["evalset.toml", "pyproject.toml"])
@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ("jbos = 3", "unknown key `jbos`; did you mean `jobs`?"),
        ("colour = 3", "unknown key `colour`; `evalset run --help` shows the options"),
        ("dry_run = true", "unknown key `dry_run`"),
        (
            'progress-dir = "a"\nprogress_dir = "b"',
            "is given twice, with a hyphen and an underscore",
        ),
        ('jobs = "many"', "'many' is not a valid integer"),
        ("jobs = 0", "0 is not in the range x>=1"),
        ("jobs = 1.5", "`jobs` takes a whole number"),
        ("jobs = true", "`jobs` takes a value, not true or false"),
        ("jobs = [1]", "`jobs` must be text, a number, true or false, or a list of texts"),
        ('image = ["a", "b"]', "`image` takes one value, not a list"),
        ("progress_dir = 5", "`progress_dir` takes text"),
        ("select = 5", "`select` takes text"),
        ('resume = "maybe"', "`resume` takes true or false"),
        ('timeout = "soon"', "duration `soon` must be like 90s"),
        ("jobs = = 3", "this is not valid TOML"),
        ("jobs = 1979-05-27", "`jobs` must be text, a number"),
    ],
)
def test_a_configuration_that_is_not_understood(
    here: Here, name: str, content: str, fact: str
) -> None:
    """The line has the file, the key, and what would be right."""
    table = "[tool.evalset]\n" if name == "pyproject.toml" else ""
    path = here.put(name, f"{table}{content}\n")
    line = here.refused(*RUN)
    assert line.startswith(f"{path}: ")
    assert fact in line


def test_a_bad_value_in_the_environment_names_its_variable(here: Here) -> None:
    """It is not on the command line, where people would look for it."""
    line = here.refused(*RUN, EVALSET_JOBS="many")
    assert line.startswith("EVALSET_JOBS: ")
    assert "'many' is not a valid integer" in line


@pytest.mark.parametrize(
    ("arguments", "fact", "cure"),
    [
        (["rnu", "dummy", "mine"], "No such command 'rnu'; did you mean `run`?", "evalset --help"),
        (["zzzzz"], "No such command 'zzzzz' (", "evalset --help"),
        (["snapshot", "pul"], "No such command 'pul'; did you mean `pull`?", "snapshot --help"),
        (["--nope"], "No such option '--nope' (", "evalset --help"),
        (["status", "--jsn"], "No such option '--jsn'; did you mean `--json`", "status --help"),
        (["run", "dummy"], "required: eval_set", "evalset run --help"),
        (["status", "dummy"], "MODEL and EVAL_SET are missing", "evalset status --help"),
        (["status"], "MODEL and EVAL_SET are missing", "`evalset list progress` shows what there"),
        (["status", "dummy", "mine", "more"], "unexpected extra argument", "status --help"),
        (["list", "planets"], "'planets' is not one of 'sets'", "evalset list --help"),
        (["list", "sest"], "'progress'; did you mean `sets`?", "evalset list --help"),
        (["list", "sets", "--set", "a"], "--set needs the word `evals`, not `sets`", "leave"),
        (["reset", "dummy", "none"], "has no progress of dummy none", "evalset list progress"),
        (["status", "dummy", "none"], "has no progress of dummy none", "evalset list progress"),
        (["status", "dumy", "mine"], "no progress of dumy mine; did you mean `dummy mine`?", ""),
        (["status", "dummy", "mien"], "no progress of dummy mien; did you mean `dummy mine`?", ""),
        (["status", "dummy", "mine", "--junit", "own"], "own is not a plain file", "name one"),
        (
            ["status", "dummy", "mine", "--summary"],
            "GITHUB_STEP_SUMMARY is not set, as it is in a step of GitHub Actions",
            "leave the option out",
        ),
        (
            ["logs", "dummy", "none", "a"],
            "progress has no progress of dummy none",
            "--progress-dir",
        ),
        (["logs", "dummy", "mine", "a"], "no attempt of `a`", "`evalset status` lists the evals"),
    ],
)
def test_a_command_line_that_is_not_understood(
    here: Here, arguments: list[str], fact: str, cure: str
) -> None:
    """The line has what is wrong, and where to look."""
    line = here.refused(*arguments)
    assert fact in line
    assert cure in line


def test_an_argument_that_is_no_utf8(here: Here) -> None:
    """No record can hold it, and so no eval is started with it."""
    assert "is not UTF-8; give it in UTF-8" in here.refused(*RUN, "--user", b"\xff")


def test_no_engine(here: Here) -> None:
    """The line has the address that was tried, and how to start one."""
    line = here.refused(*RUN, code=3)
    assert line.startswith(f"no Docker engine answers at {NO_ENGINE}; start it")
    assert "or point DOCKER_HOST at one" in line


def test_no_right_to_the_engines_socket(here: Here, tmp_path: Path) -> None:
    """The line says which group gives it."""
    closed = tmp_path / "closed"
    closed.mkdir()
    path = closed / "docker.sock"
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(os.path.relpath(path))
        engine.listen()
        closed.chmod(0)
        line = here.refused(*RUN, code=3, bound=True, DOCKER_HOST=f"unix://{path}")
    closed.chmod(0o700)
    assert line.startswith(
        "no permission to use the Docker engine's socket; add this user to the group"
    )


def test_an_address_that_is_none(here: Here) -> None:
    """A typing error in DOCKER_HOST is told as such."""
    line = here.refused(*RUN, code=3, DOCKER_HOST="nonsense://here")
    assert "nonsense" in line


def test_a_progress_file_without_the_right_to_read_it(here: Here) -> None:
    """The line says what to do, whatever command reads it."""
    here.progress.chmod(0)
    ended = here.evalset("status", "dummy", "mine", bound=True)
    line = only_line(ended, 3)
    assert line.startswith(f"cannot read {here.progress}: no permission; ")


def test_the_help_for_nothing_at_all(here: Here) -> None:
    """Who types the program's name alone is shown what it can do."""
    ended = here.evalset()
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Usage: evalset" in ended.stderr
    assert "Example: evalset run" in ended.stderr


def test_debug_shows_where_an_error_comes_from(here: Here) -> None:
    """For reports of bugs; by option or by variable."""
    for ended in (
        here.evalset("--debug", *RUN, "--shard", "4/3"),
        here.evalset(*RUN, "--shard", "4/3", EVALSET_DEBUG="1"),
    ):
        assert "Traceback" in ended.stderr
        assert "UsageError: shard `4/3`" in ended.stderr


def test_an_error_is_no_command_on_actions(here: Here) -> None:
    """Names in a message may come from a registry or a branch, and GitHub obeys what is printed."""
    line = here.refused("status", "dummy", "##[add-mask]x", GITHUB_ACTIONS="true")
    assert "has no progress of dummy ##(add-mask]x" in line
