"""Bad input that is found when the image's registry is known."""

import json

import pytest

from runner.model import Command
from runner.plan.pins import RunFile
from runner.records.layout import Layout
from runner.records.run_file import write_run_file
from tests.commands.conftest import LINES, PROGRESS, Here, contents, only_line

pytestmark = pytest.mark.docker

RUN = ("run", "dummy", "mine", "--registry-path", "own")
SETS = "own/eval_sets/mine.yaml"
EVALS = "own/evals/more.yaml"


@pytest.fixture
def here(here_with_engine: Here) -> Here:
    return here_with_engine


def test_an_unknown_set_is_told_with_the_closest_names(here: Here) -> None:
    """Upstream says that all is done, and exits with 0."""
    line = here.refused("run", "dummy", "test-basics")
    assert line.startswith("no eval set `test-basics`; did you mean ")
    assert "`test-basic`" in line


@pytest.mark.parametrize("name", ["test-match", "test-match.s1.simple-v0"])
def test_an_eval_is_no_eval_set(here: Here, name: str) -> None:
    """Whoever comes from oaieval types one."""
    line = here.refused("run", "dummy", name)
    assert line.startswith(f"`{name}` is an eval, not an eval set; list it in an eval set of your")


def test_where_nobody_answers_nothing_starts(here: Here) -> None:
    """Without a key, each request would wait and be retried; a model of one's own may run."""
    line = here.refused("run", "gpt-4", "test-basic", code=3, OPENAI_API_KEY="")
    assert line.startswith(
        "no key or address of a provider is set, so requests for gpt-4 have nowhere to go; "
    )
    planned = here.evalset("run", "gpt-4", "test-basic", "--dry-run", OPENAI_API_KEY="")
    assert planned.returncode == 0
    assert "the gateway can ask none" in planned.stderr


@pytest.mark.parametrize(
    ("variables", "others"),
    [
        ({"ANTHROPIC_API_KEY": "k"}, "anthropic"),
        (
            {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9"},
            "azure",
        ),
    ],
)
def test_where_only_others_answer_nothing_starts(
    here: Here, variables: dict[str, str], others: str
) -> None:
    """Evals would ask OpenAI's API without a key, and nobody through the gateway."""
    without = {"OPENAI_API_KEY": "", **variables}
    line = here.refused("run", "gpt-4", "test-basic", code=3, bound=False, **without)
    assert line == (
        f"evals ask OpenAI's API for gpt-4, and what is set up does not answer there: {others}; "
        "export OPENAI_API_KEY, or name a server of that API with --upstream openai=URL"
    )


def test_a_run_that_was_refused_has_no_progress(here: Here) -> None:
    """Its files are empty; another model has some."""
    nobody = "http://127.0.0.1:9/v1"
    run = here.evalset("run", "gpt-4", "test-basic", OPENAI_API_KEY="k", OPENAI_BASE_URL=nobody)
    assert run.returncode == 3
    assert here.evalset("list", "progress").stdout == "dummy mine  (2 evals finished)\n"


def test_the_drop_in_warns_of_a_folder_that_is_not_there_before_it_misses_the_set(
    here: Here,
) -> None:
    """The set was most likely meant to be in that folder."""
    ended = here.oaievalset("dummy", "mine-set", "--registry_path", "none")
    warning, error = ended.stderr.splitlines()
    folder = here.folder / "none"
    assert warning == f"warning: the registry folder {folder} does not exist; check --registry-path"
    assert error.startswith("Error: no eval set `mine-set`")
    assert (ended.returncode, ended.stdout) == (2, "")


def test_a_registry_folder_that_was_forgotten_is_remembered(here: Here) -> None:
    """The run before had it."""
    with_folder = Command(("oaieval", "dummy", "a.v0", "--registry_path", "/registry/0"))
    layout = Layout(root=here.folder / "progress", model="dummy", eval_set="mine")
    last = RunFile(
        run="r",
        model="dummy",
        eval_set="mine",
        image="i",
        image_id="i",
        commands=(with_folder,),
        limits={},
    )
    write_run_file(layout, last)
    ended = here.evalset("run", "dummy", "mine")
    warning, error = ended.stderr.splitlines()
    assert error.startswith("Error: no eval set `mine`")
    assert warning == "warning: the last run of it had 1 --registry-path, and this one has none"
    assert ended.returncode == 2


def test_a_set_unlike_any_other_is_told_where_they_are_listed(here: Here) -> None:
    """There is no closest name then."""
    line = here.refused("run", "dummy", "qqqqqqqqqqqqqqqq")
    assert line == "no eval set `qqqqqqqqqqqqqqqq`; `evalset list` shows all"


def test_options_before_the_names_are_explained(here: Here) -> None:
    """Upstream runs model `5`, set `gpt-4`; the grammar is the same, the line says so."""
    line = here.refused("run", "--max_samples", "5", "gpt-4", "test-basic")
    assert line.startswith("no eval set `gpt-4`; options that are passed through come last")
    assert "MODEL was taken to be `5`" in line


@pytest.mark.parametrize(
    ("path", "content", "fact"),
    [
        (SETS, "mine: {evals: [none.*]}", "lists `none.*`, which matches no eval"),
        (SETS, "mine: {evals: [a.dve.v0]}", "matches no eval; did you mean `a.dev.v0`"),
        (SETS, "mine: {evals: a}", "has `evals` that are not a list of names or patterns"),
        (SETS, "mine: {metadata: 1}", "has no `evals`, a list of names or patterns"),
        (SETS, "mine: {evals: []}", "has an empty list of `evals`"),
        (SETS, "mine: [a]", "has no `evals`, a list of names or patterns"),
        (SETS, "mine: {id: ours}\nours: {id: mine}", "in a circle: mine -> ours -> mine; fix "),
        (SETS, "mine: {id: ours}", "alias of `ours`, which is in no registry"),
        (SETS, "mine: {evals: [a\nx: 1\n", ", line 2: this is not valid YAML"),
        (SETS, "- mine", ", line 1: expected a mapping of names, found a list"),
        (
            SETS,
            "mine: {evals: [a]}\nmine: {evals: []}",
            ", line 2: `mine` is already defined at line 1",
        ),
        (SETS, b"\xff", ", line 1: this is not UTF-8; save it as UTF-8"),
        (EVALS, "d: {id: e}\ne: {id: d}", None),
        (EVALS, "a: {class: x}", "eval `a` is defined twice, in "),
        (EVALS, "test-match: {class: x}", "eval `test-match` is defined twice, in "),
        (EVALS, "just text", ", line 1: expected a mapping of names, found a single value"),
        (EVALS, "x: {class: y, key: z}", "`x` uses the reserved keyword `key`; rename it"),
        ("own/containers/c.yaml", "a*: {memry: 2g}", "unknown key `memry`; did you mean `memory`?"),
        ("own/containers/c.yaml", "a*: {memory: much}", "`memory`: memory `much` is not an amount"),
        ("own/containers/c.yaml", "a*: 2g", "must be a mapping of settings, such as `memory: 2g`"),
    ],
)
def test_a_registry_that_cannot_be_run(
    here: Here, path: str, content: str | bytes, fact: str | None
) -> None:
    """The line names the file, and nothing runs and nothing is written."""
    bad = here.put(path, content)
    if fact is None:  # a fault of an eval that nobody asks for
        return assert_it_bothers_nobody(here)
    line = here.refused(*RUN)
    assert fact in line
    assert bad.name in line
    return None


def assert_it_bothers_nobody(here: Here) -> None:
    assert here.evalset(*RUN, "--dry-run").returncode == 0


def test_an_alias_loop_in_the_set_is_shown(here: Here) -> None:
    """The line has the whole circle, and the file to fix."""
    here.put(EVALS, "d: {id: e}\ne: {id: d}")
    here.put(SETS, "mine: {evals: [d]}")
    line = here.refused(*RUN)
    assert "eval `d` is an alias that leads in a circle: d -> e -> d; fix " in line
    assert "more.yaml" in line


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (["--select", "b.dve.v0"], "--select `b.dve.v0` matches no eval of the set; did you mean"),
        (["--exclude", "*"], "leave none of the set's 3 evals"),
        (
            ["--image", "evalset/none:1"],
            "the image evalset/none:1 is not here and cannot be pulled",
        ),
    ],
)
def test_an_option_that_leads_to_nothing(here: Here, options: list[str], fact: str) -> None:
    """Not even a lock file is left behind."""
    line = here.refused(*RUN, *options, code=3 if "--image" in options else 2)
    assert fact in line


def test_a_variable_that_a_rule_names_must_be_set(here: Here) -> None:
    """The line says which, and where its name comes from."""
    here.put("own/containers/c.yaml", "c*: {env: [UNSET_HERE]}")
    ended = here.evalset(*RUN, "--no-exit-on-error")
    assert ended.returncode == 2
    assert "the variable UNSET_HERE, which a file in containers/ names, is not set" in ended.stderr
    assert here.progress.read_text() == PROGRESS


def test_a_progress_file_that_is_a_folder(here: Here) -> None:
    """The line says what to do."""
    here.progress.unlink()
    here.progress.mkdir()
    line = here.refused(*RUN, code=3)
    assert line == f"cannot read {here.progress}: it is a folder; move it away"


def test_a_progress_directory_that_is_a_file(here: Here) -> None:
    """The line says what to do."""
    path = here.put("file", "")
    line = here.refused(*RUN, "--progress-dir", "file", code=3)
    assert str(path) in line
    assert "a file is where a folder should be; move it away" in line


def test_a_progress_file_that_cannot_be_written(here: Here) -> None:
    """The line says what to do, and no container is started that could not be recorded."""
    here.progress.chmod(0o444)
    before = contents(here.folder)
    line = only_line(here.evalset(*RUN, bound=True), 3)
    assert line.startswith(f"cannot write {here.progress}: no permission; make it writable")
    after = contents(here.folder)
    assert {name: after[name] for name in before} == before


def test_a_damaged_line_is_named_and_the_rest_counts(here: Here) -> None:
    """The warning goes to stderr, and the eval that the line stood for is to do again."""
    here.progress.write_text(f'{LINES[0]}["oaieval", "dum\n{LINES[1]}')
    before = contents(here.folder)
    ended = here.evalset(*RUN, "--dry-run", "--json")
    assert ended.stderr.startswith(f"warning: {here.progress}: line 2 cannot be read")
    assert ended.stderr.count("\n") == 1
    assert [command[2] for command in json.loads(ended.stdout)["done"]] == ["a.dev.v0", "b.dev.v0"]
    assert contents(here.folder) == before


def test_a_torn_last_line_is_no_cause_for_a_word(here: Here) -> None:
    """A crash leaves one, and upstream's next resume crashes on it."""
    here.progress.write_text(PROGRESS[:-5])
    ended = here.evalset(*RUN, "--dry-run", "--json")
    assert ended.stderr == ""
    assert [command[2] for command in json.loads(ended.stdout)["done"]] == ["a.dev.v0"]


def test_a_mistyped_option_is_warned_of(here: Here) -> None:
    """It is passed through, as upstream's grammar has it; the image's `oaieval` refuses it."""
    ended = here.evalset(*RUN, "--dry-run", "--json", "--time-out", "5")
    assert "`--time-out` is passed on to every eval; did you mean `--timeout`?" in ended.stderr
    assert "unrecognized arguments: --time-out 5; leave that out" in ended.stderr
    assert (ended.returncode, ended.stdout) == (2, "")
