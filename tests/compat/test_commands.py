from pathlib import Path

import pytest

from runner.model import build_command, identities
from runner.plan.grammar import get_parser, without_dashes
from runner.registry.entries import Registry, RegistryFile, merge_registries, parse_registry
from runner.registry.resolve import resolve_eval_set
from tests.compat.upstream import ask

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
    passed_through = without_dashes(argv, unknown)
    return [
        list(
            build_command(
                run_command="oaieval",
                model=args.model,
                eval=key,
                passed_through=passed_through,
                registry_paths=args.registry_path or (),
            )
        )
        for key in resolve_eval_set(registry, args.eval_set).evals
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
    for command, key in zip(theirs, resolve_eval_set(builtin, "test-basic").evals, strict=True):
        forms = identities(
            run_command="oaieval",
            model="m",
            eval=key,
            passed_through=["--debug"],
            registry_paths=paths,
        )
        assert tuple(command) in forms
