"""Runs evals of upstream's registry, and says what keeps those that fail from running."""

import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from runner.image.build import Recipe
from runner.model import Attempt, Result
from runner.options import DEFAULT_IMAGE, EXTRAS, extra_image
from runner.records.layout import Layout
from runner.records.logs import last_lines
from runner.records.progress import read_attempts
from runner.records.spending import read_spent
from runner.records.state import RunState
from runner.registry.needs import ClassNeeds, Kind, MeasuredObstacle, Needs
from tests.coverage.classes import Found, classes_in
from tests.coverage.reasons import explain
from tests.provider import KEY, provider

# Of a console log, so that a traceback through many libraries is in them.
LINES = 400

# Why an eval does not run with `dummy` and without a network, and whether it did with a stub.
Outcome = tuple[Kind, str, bool]

# Of an eval that asks a model, although the one that it measures is `dummy`.
OWN_MODEL: Outcome = ("model", "asks a model of its own choice at OpenAI", True)

# The architecture for which all packages of evals have wheels.
MACHINE = "x86_64"

# What an eval may take; some train a model first, for hours, and one plays for five minutes.
TIME_LIMIT = "8m"


def recipes() -> dict[str, str]:
    """What images are made from today, whatever base they have here, as `Needs.recipes`."""
    found = {"": Recipe()} | {extra: Recipe(extra) for extra in EXTRAS}
    return {extra: recipe.fingerprint("", MACHINE) for extra, recipe in found.items()}


def classes(extras: Iterable[str] = EXTRAS, eval_image: str = DEFAULT_IMAGE) -> Needs:
    """What can be imported where; evals of a class that can be count as running."""
    found = classes_in(eval_image)
    others = {extra: classes_in(extra_image(extra, eval_image)) for extra in extras}
    return Needs(
        evals_version=eval_image.rpartition(":")[2],
        recipes=recipes(),
        classes=tuple(_class(name, here, others) for name, here in found.items()),
    )


def _class(name: str, here: Found, others: Mapping[str, Mapping[str, Found]]) -> ClassNeeds:
    if not here.error:
        return ClassNeeds(name=name, runs=here.evals)
    for extra, there in others.items():
        if not there[name].error:
            return ClassNeeds(name=name, image=extra, runs=here.evals)
    kind, why = _why(here)
    obstacle = MeasuredObstacle(kind=kind, why=why, evals=here.evals)
    return ClassNeeds(name=name, fails=here.error, obstacles=(obstacle,))


def _why(here: Found) -> tuple[Kind, str]:
    if here.starts_containers:
        return "engine", "starts containers itself, which no container can do here"
    return explain(here.error)


def run(evals: Sequence[str], folder: Path, image: str = "") -> Layout:
    """Run evals with `dummy`, one sample and no network; gives where their records are.

    Those that ask a model of OpenAI's, whatever model they are to measure, are answered by a stub
    in its place: `0`, which judges of theirs may say.

    Args:
        evals: names, or patterns.
        folder: where their files go.
        image: for all of them, instead of what the runner chooses.
    """
    sets = folder / "registry/eval_sets"
    sets.mkdir(parents=True, exist_ok=True)
    names = "".join(f'\n    - "{name}"' for name in evals)
    sets.joinpath("everything.yaml").write_text(f"everything:\n  evals:{names}\n")
    progress = folder / "progress"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EVALSET_")}
    with provider(folder, answer="0") as stub:
        subprocess.run(
            [
                *(sys.executable, "-m", "runner", "run", "dummy", "everything"),
                *("--registry-path", str(folder / "registry"), "--progress-dir", str(progress)),
                *("--network", "none", "--timeout", TIME_LIMIT, "--no-exit-on-error"),
                # Without the probe, which leaves out what was measured not to run.
                *("--max-failures", "0", "--retries", "0", "--env", "HF_HUB_OFFLINE", "--no-probe"),
                *(("--image", image) if image else ()),
                *("--max_samples", "1"),
            ],
            check=False,  # 1 if an eval failed, which is what is asked here
            env={
                **kept,
                "HF_HUB_OFFLINE": "1",
                "OPENAI_API_KEY": KEY,
                "OPENAI_BASE_URL": f"{stub.url}/v1",
            },
        )
    return Layout(root=progress, model="dummy", eval_set="everything")


def attempts_of(layout: Layout) -> dict[str, Attempt]:
    """The newest attempt of each eval."""
    return {each.eval: each for each in read_attempts(layout.attempts).records}


def askers(layout: Layout) -> set[str]:
    """The evals that asked a model, although the one that they measure is `dummy`.

    Some ask for the list of models alone, and run without it.
    """
    spent = read_spent(layout, RunState.from_directory(layout).commands)
    return {one.eval for one in spent.evals if one.totals.usage.total}


def outcomes(
    attempts: Mapping[str, Attempt], layout: Layout, asked: Collection[str]
) -> dict[str, Outcome | None]:
    """How evals ended; None if one ran, and asked no model."""
    found: dict[str, Outcome | None] = {}
    for name, attempt in attempts.items():
        if attempt.result is not Result.SUCCESS:
            found[name] = (*reason(attempt, layout), False)
        else:
            found[name] = OWN_MODEL if name in asked else None
    return found


def outcomes_in(needs: Needs) -> dict[str, Outcome | None]:
    """How evals ended when they were measured."""
    found: dict[str, Outcome | None] = {}
    for each in needs.classes:
        found |= dict.fromkeys(each.runs)
        for it in each.obstacles:
            found |= dict.fromkeys(it.evals, (it.kind, it.why, it.seen))
    return found


def with_outcomes(needs: Needs, outcomes: Mapping[str, Outcome | None]) -> Needs:
    """What is needed, given how evals ended.

    Raises:
        SystemExit: one that can be imported was not run.
    """
    importable = (name for each in needs.classes if not each.fails for name in each.evals)
    if missing := [name for name in importable if name not in outcomes]:
        raise SystemExit(f"{len(missing)} evals were not run, such as {missing[0]}")
    return Needs(
        evals_version=needs.evals_version,
        recipes=needs.recipes,
        classes=tuple(each if each.fails else _measured(each, outcomes) for each in needs.classes),
    )


def _measured(each: ClassNeeds, outcomes: Mapping[str, Outcome | None]) -> ClassNeeds:
    failed: dict[Outcome, list[str]] = {}
    for name in each.evals:
        if outcome := outcomes[name]:
            failed.setdefault(outcome, []).append(name)
    return ClassNeeds(
        name=each.name,
        image=each.image,
        runs=tuple(name for name in each.evals if not outcomes[name]),
        obstacles=tuple(
            MeasuredObstacle(kind=kind, why=why, evals=tuple(names), seen=seen)
            for (kind, why, seen), names in failed.items()
        ),
    )


def reason(attempt: Attempt, layout: Layout) -> tuple[Kind, str]:
    """Why an eval failed."""
    if "(--timeout)" in attempt.reason:
        return "time", f"trains a model first, for longer than {TIME_LIMIT}"
    if not attempt.console_log:
        return "upstream", f"fails: {attempt.reason}"
    (path,) = layout.log_paths([attempt.console_log])
    return explain("\n".join(last_lines(path, LINES)))
