"""The whole job, and its parts, against upstream's command."""

import os
import shutil
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from bench.figure import EVALSET, IMAGE, PYTHON, UPSTREAM, Figure, in_turn, seconds
from runner.registry.needs import needs

EVALS = ("test-match", "test-fuzzy-match", "test-includes", "test-includes-ignore-case")


@contextmanager
def _eval_set() -> Iterator[tuple[str, Path, dict[str, str]]]:
    """The evals of `test-basic` under a name of its own, because upstream writes below /tmp."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        registry = Path(folder, "registry")
        sets = registry / "eval_sets"
        sets.mkdir(parents=True)
        lines = "".join(f"    - {each}\n" for each in EVALS)
        (sets / "bench.yaml").write_text(f"{name}:\n  evals:\n{lines}")
        environment = os.environ | {
            "OPENAI_API_KEY": "none",
            "EVALSET_GATEWAY": "false",  # no model is asked
            "EVALSET_PROGRESS_DIR": f"{folder}/progress",
        }
        try:
            yield name, registry, environment
        finally:
            Path(f"/tmp/oaievalset/dummy.{name}.progress.txt").unlink(missing_ok=True)


def wall_time(runs: int) -> Figure:
    """`dummy test-basic` in containers against upstream's `oaievalset` without."""
    with _eval_set() as (name, registry, environment):
        upstream_environment = environment | {"PATH": f"{UPSTREAM}:{environment['PATH']}"}
        arguments = ["dummy", name, "--registry_path", str(registry), "--no-resume"]

        def ours() -> float:
            return seconds([EVALSET, "run", *arguments], env=environment)

        def theirs() -> float:
            return seconds([UPSTREAM / "oaievalset", *arguments], env=upstream_environment)

        mine, other = in_turn(ours, theirs, runs)
    return Figure(
        name="wall time of dummy test-basic against upstream's oaievalset",
        ratio=mine / other,
        goal=0.33,
        unit="s",
        ours=mine,
        theirs=other,
        runs=runs,
        what="evalset run dummy SET (containers, one per CPU at once); oaievalset (no containers)",
    )


def first_command(runs: int) -> Figure:
    """Time to the creation of the first container against upstream's time to its first command."""
    # Upstream asks nothing of the model's name before it runs the first command.
    model = f"bench-{uuid.uuid4().hex[:8]}"
    record = Path(f"/tmp/oaievalset/{model}.test-basic.progress.txt")
    with tempfile.TemporaryDirectory() as folder:
        own = {"OPENAI_API_KEY": "none", "EVALSET_GATEWAY": "false", "EVALSET_PROGRESS_DIR": folder}
        environment = os.environ | own
        note = Path(folder, "began")
        program = Path(folder, "oaieval")
        program.write_text(f"#!/bin/sh\n[ -e {note} ] || date +%s%N > {note}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        upstream_environment = environment | {"PATH": f"{folder}:{environment['PATH']}"}
        arguments = [model, "test-basic", "--no-resume"]

        def ours() -> float:
            line: list[str | Path] = [EVALSET, "run", *arguments, "--run-command", "true"]
            return until_created(line, environment, model)

        def theirs() -> float:
            note.unlink(missing_ok=True)
            began = time.time_ns()
            seconds([UPSTREAM / "oaievalset", *arguments], env=upstream_environment)
            return (int(note.read_text()) - began) / 1e9

        try:
            mine, other = in_turn(ours, theirs, runs)
        finally:
            record.unlink(missing_ok=True)
    return Figure(
        name="time to the first container's creation against upstream's to its first command",
        ratio=mine / other,
        goal=0.18,
        unit="s",
        ours=mine,
        theirs=other,
        runs=runs,
        what="evalset run, warm registry cache, engine's create event; oaievalset, a fake oaieval",
    )


def nothing_to_run(runs: int) -> Figure:
    """The whole of `evalset run` where all is finished, against a limit."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"EVALSET_PROGRESS_DIR": folder}
        line: list[str | Path] = [EVALSET, "run", "dummy", "test-basic", "--run-command", "true"]
        seconds(line, env=environment)
        took = sorted(seconds(line, env=environment) for _ in range(runs))[runs // 2]
    return Figure(
        name="evalset run with all done, of 1 s",
        ratio=took,
        goal=1.0,
        unit="s",
        ours=took,
        theirs=1.0,
        runs=runs,
        what="evalset run dummy test-basic, a second time; `theirs` is the limit",
    )


def looking(runs: int, count: int = 100) -> list[Figure]:
    """What the look for evals that cannot run adds, the first time and later.

    Classes of upstream's are known in the eval image; those of a folder of code are imported.
    """
    names = [name for name, need in needs().items() if not need.kind and not need.image][:count]
    with tempfile.TemporaryDirectory() as folder:
        registry = Path(folder, "registry")
        sets = registry / "eval_sets"
        sets.mkdir(parents=True)
        lines = "".join(f"    - {name}\n" for name in names)
        (sets / "set.yaml").write_text(f"hundred:\n  evals:\n{lines}")
        known = _looks(registry, ("hundred",), runs, f"{count} evals")
        _write_own(registry, Path(folder, "code"), count)
        options = ("own", "--code", f"{folder}/code")
        own = _looks(registry, options, runs, f"{count} evals of one's own")
    return [*known, *own]


def _write_own(registry: Path, code: Path, count: int, together: int = 10) -> None:
    """Evals of one's own, an eval set `own` of them, and their classes, some in each module."""
    entries = []
    for module in range(-(-count // together)):
        path = code / f"own/evals_{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        names = range(module * together, min(count, (module + 1) * together))
        classes = "".join(f"class Eval{name}(Match):\n    pass\n" for name in names)
        path.write_text(f"from evals.elsuite.basic.match import Match\n{classes}")
        entries += [
            f'own-{name}.dev.v0: {{class: "own.evals_{module}:Eval{name}", '
            "args: {samples_jsonl: own.jsonl}}\n"
            for name in names
        ]
    for name, text in {
        "evals/own.yaml": "".join(entries),
        "eval_sets/own.yaml": 'own: {evals: ["own-*"]}\n',
        "data/own.jsonl": '{"input": "1", "ideal": "1"}\n',
    }.items():
        (registry / name).parent.mkdir(parents=True, exist_ok=True)
        (registry / name).write_text(text)


def _looks(registry: Path, options: tuple[str, ...], runs: int, what: str) -> list[Figure]:
    """The first look and a later one at an eval set, which the options begin with."""
    with tempfile.TemporaryDirectory() as folder:
        own = {"XDG_CACHE_HOME": folder, "EVALSET_PROGRESS_DIR": f"{folder}/progress"}
        environment = os.environ | own
        line: list[str | Path] = [EVALSET, "run", "dummy", *options, "--dry-run"]
        line += ["--registry-path", registry]

        def without() -> float:
            return seconds([*line, "--no-probe"], env=environment)

        def later() -> float:
            return seconds(line, env=environment)

        def first() -> float:
            shutil.rmtree(Path(folder, "evalset/looks"), ignore_errors=True)
            return later()

        without()  # reads the image's registry
        at_first, plain = in_turn(first, without, runs)
        again, plain_again = in_turn(later, without, runs)
    return [
        Figure(
            name=f"{name} at {what}, of {limit:g} s",
            ratio=(ours - theirs) / limit,
            goal=1,
            unit="s",
            ours=ours,
            theirs=theirs,
            runs=runs,
            what=f"evalset run dummy SET --dry-run, {what}; with --no-probe; the ratio is of the "
            f"difference to {limit:g} s",
        )
        for name, limit, ours, theirs in (
            ("a first look", 2.0, at_first, plain),
            ("a later look", 0.1, again, plain_again),
        )
    ]


def until_created(command: list[str | Path], environment: dict[str, str], model: str) -> float:
    """Seconds from the start of a run with this model to the creation of its first container."""
    api = docker.from_env().api
    # Others may use the engine, too.
    only = {"type": "container", "event": "create", "label": f"evalset.model={model}"}
    events = api.events(decode=True, filters=only)
    created: list[int] = []

    def listen() -> None:
        for event in events:
            created.append(event["timeNano"])
            break

    listener = threading.Thread(target=listen)
    listener.start()
    time.sleep(0.2)
    began = time.time_ns()
    seconds(command, env=environment)
    listener.join()
    return (created[0] - began) / 1e9


def many_containers(runs: int, at_once: int, count: int = 40) -> Figure:
    """Containers that do nothing, against `docker run` with the same limits."""
    with tempfile.TemporaryDirectory() as folder:
        registry = Path(folder, "registry")
        for kind in ("evals", "eval_sets"):
            (registry / kind).mkdir(parents=True)
        entries = "".join(f"true-{i}.dev.v0:\n  class: none:None\n" for i in range(count))
        (registry / "evals/true.yaml").write_text(entries)
        (registry / "eval_sets/true.yaml").write_text("nothing:\n  evals: ['true-*']\n")
        progress = Path(folder, "progress")
        ours_line: list[str | Path] = [
            *(EVALSET, "run", "m", "nothing", "--registry-path", registry, "--run-command", "true"),
            *("--jobs", str(at_once), "--progress-dir", progress),
        ]
        tmp = Path(folder, "tmp")
        tmp.mkdir()
        theirs_line = (
            f"seq {count} | xargs -P {at_once} -I% docker run --rm --init --cap-drop ALL "
            "--security-opt no-new-privileges --read-only --memory 4g --memory-swap 4g --cpus 2 "
            f"--pids-limit 1024 --network evalset --user {os.getuid()}:{os.getgid()} "
            "--add-host host.docker.internal:host-gateway --log-driver json-file "
            "--log-opt max-size=10m --log-opt max-file=2 -w /tmp "
            f"--mount type=bind,src={registry},dst=/registry/0,readonly "
            f"--mount type=bind,src={tmp},dst=/tmp {IMAGE} true m true-%.dev.v0"
        )

        def ours() -> float:
            shutil.rmtree(progress, ignore_errors=True)
            return seconds(ours_line) / count

        def theirs() -> float:
            return seconds(["sh", "-c", theirs_line]) / count

        mine, other = in_turn(ours, theirs, runs)
    return Figure(
        name=f"time per eval, {count} containers of `true`, {at_once} at once, against docker run",
        ratio=mine / other,
        goal=1.0,
        unit="s",
        ours=mine,
        theirs=other,
        runs=runs,
        what=f"evalset run --jobs {at_once}, all recorded; xargs -P {at_once} docker run --rm",
    )


def help_time(runs: int) -> Figure:
    """`evalset --help` against an empty Python program."""
    mine, other = in_turn(
        lambda: seconds([EVALSET, "--help"]), lambda: seconds([PYTHON, "-c", "pass"]), runs
    )
    return Figure(
        name="evalset --help against python -c pass",
        ratio=mine / other,
        goal=5,
        unit="s",
        ours=mine,
        theirs=other,
        runs=runs,
        what="evalset --help; python -c pass",
    )
