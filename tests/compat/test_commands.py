from pathlib import Path

import pytest

from runner.plan.grammar import get_parser, without_dashes
from runner.plan.plan import arguments_of, make_plan
from runner.registry.entries import Registry, RegistryFile, merge_registries, parse_registry
from runner.registry.resolve import resolve_eval_set
from tests.compat.upstream import ask
from tests.outcomes import SETTINGS, asked

pytestmark = pytest.mark.upstream

KINDS = ("eval_sets", "evals", "completion_fns", "solvers")
EVALS = """
mine:
  id: mine.dev.v0
mine.dev.v0: {class: "evals.elsuite.basic.match:Match", args: {samples_jsonl: a.jsonl}}
chain: {id: link}
link: {id: mine}
other.dev.v0: {class: "evals.elsuite.basic.match:Match"}
other.test.v1: {class: "evals.elsuite.basic.match:Match", args: {}}
otherwise.dev.v0: {class: "evals.elsuite.basic.match:Match"}
"""
EVAL_SETS = """
mine-once: {evals: [mine, chain, mine.dev.v0, "mine*"]}
mine-order: {evals: [other.test.v1, chain, "oth*.dev.*"]}
mine-dot: {evals: ["other.*"]}
mine-all: {evals: ["*"]}
mine-both: {evals: [test-match, mine]}
mine-alias: {id: mine-again}
mine-again: {id: mine-order}
"""
ARGUMENTS = [
    [],
    ["--max_samples", "5"],
    ["--max_samples=5", "--user", "me", "--no-cache"],
    ["--res"],
    ["--no-resume", "--no-exit-on-error", "--seed", "1"],
    ["--", "--dry-run", "--resume"],
    ["extra", "positionals", "--debug", "more"],
    ["--completion_args", "temperature=0.5,max_tokens=10"],
    ["-x", "-5", ""],
]


def read(folder: Path) -> Registry:
    """A registry folder as upstream lays it out."""
    files = [
        RegistryFile(path=str(path), kind=kind, text=path.read_text())
        for kind in KINDS
        for path in sorted(folder.glob(f"{kind}/*.yaml"))
    ]
    return parse_registry(files, builtin="site-packages" in str(folder))


@pytest.fixture(scope="module")
def builtin() -> Registry:
    """Upstream's own registry, read by us."""
    (folder,) = ask([("folder", None)])
    return read(Path(folder))


@pytest.fixture
def further(tmp_path: Path) -> Path:
    """A registry folder of a user's."""
    for kind, text in (("evals", EVALS), ("eval_sets", EVAL_SETS)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "mine.yaml").write_text(text)
    return tmp_path


def planned(argv: list[str], registry: Registry) -> list[list[str]]:
    """The commands that the drop-in would run for a command line."""
    args, unknown = get_parser().parse_known_args(argv)
    options = asked(
        model=args.model,
        eval_set=args.eval_set,
        passed_through=without_dashes(argv, unknown),
        registry_paths=tuple(args.registry_path or ()),
        as_typed=True,
    )
    evals = resolve_eval_set(registry, args.eval_set).evals
    return [
        list(one) for one in make_plan(options, evals=evals, settings=lambda _: SETTINGS).commands
    ]


def test_every_eval_set_of_upstream_is_planned_as_upstream_does(builtin: Registry) -> None:
    """For each built-in eval set, our commands are upstream's, in upstream's order."""
    (names,) = ask([("eval_sets", None)])
    assert names == list(builtin.eval_sets)
    argvs = [["dummy", name, "--max_samples", "1"] for name in names]
    for argv, theirs in zip(argvs, ask([("commands", argv) for argv in argvs]), strict=True):
        assert planned(argv, builtin) == theirs, argv
        assert theirs


def test_a_table_of_command_lines_is_planned_as_upstream_does(builtin: Registry) -> None:
    """Whatever is passed through, our commands are upstream's."""
    argvs = [["gpt-4", "test-basic", *arguments] for arguments in ARGUMENTS]
    argvs += [["--max_samples", "5", "test-basic"], ["--no-res", "m", "--seed", "test-basic", "1"]]
    for argv, theirs in zip(argvs, ask([("commands", argv) for argv in argvs]), strict=True):
        assert planned(argv, builtin) == theirs, argv
        assert theirs


def test_the_dashes_are_the_one_difference(builtin: Registry) -> None:
    """Upstream hands a `--` behind an option on, with which no `oaieval` starts; we drop it."""
    argv = ["gpt-4", "test-basic", "--dry-run", "--", "--resume"]
    ((first, *_),) = ask([("commands", argv)])
    assert first[3:] == ["--dry-run", "--", "--resume"]
    assert planned(argv, builtin)[0] == [*first[:3], "--dry-run", "--resume"]


def test_a_users_registry_is_planned_as_upstream_does(builtin: Registry, further: Path) -> None:
    """Aliases, chains, patterns, repeats and order of a further registry are upstream's."""
    registry = merge_registries([builtin, read(further)])
    argvs = [
        ["dummy", name, "--registry_path", str(further), "--seed", "1"]
        for name in read(further).eval_sets
    ]
    for argv, theirs in zip(argvs, ask([("commands", argv) for argv in argvs]), strict=True):
        assert planned(argv, registry) == theirs, argv
        assert theirs


def test_what_upstream_records_for_several_paths_is_recognised(
    builtin: Registry, further: Path, tmp_path: Path
) -> None:
    """Upstream's `--registry_path a b` counts as finished, though we never write it."""
    second = tmp_path / "empty"
    paths = [str(further), str(second)]
    argv = ["m", "test-basic", "--registry_path", paths[0], "--registry_path", paths[1], "--debug"]
    (theirs,) = ask([("commands", argv)])
    forms = arguments_of(asked(passed_through=("--debug",), registry_paths=tuple(paths)))
    for command, key in zip(theirs, resolve_eval_set(builtin, "test-basic").evals, strict=True):
        assert command[:3] == ["oaieval", "m", key]
        assert tuple(command[3:]) in forms
