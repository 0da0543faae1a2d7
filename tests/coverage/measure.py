"""Runs evals of upstream's registry, and says what keeps those that fail from running."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from runner.model import Attempt, Result
from runner.options import DEFAULT_IMAGE, EXTRAS, extra_image
from runner.records.attempts import read_attempts
from runner.records.layout import Layout
from runner.records.logs import last_lines
from runner.registry.needs import ClassNeeds, Kind, Needs, Obstacle
from tests.coverage.classes import Found, classes_in
from tests.coverage.reasons import explain

# Of a console log, so that a traceback through many libraries is in them.
LINES = 400

# What an eval may take; some train a model first, for hours.
TIME_LIMIT = "5m"


def classes(extras: Iterable[str] = EXTRAS, eval_image: str = DEFAULT_IMAGE) -> Needs:
    """What can be imported where; evals of a class that can be count as running."""
    found = classes_in(eval_image)
    others = {extra: classes_in(extra_image(extra, eval_image)) for extra in extras}
    return Needs(
        evals_version=eval_image.rpartition(":")[2],
        classes=tuple(_class(name, here, others) for name, here in found.items()),
    )


def _class(name: str, here: Found, others: Mapping[str, Mapping[str, Found]]) -> ClassNeeds:
    if not here.error:
        return ClassNeeds(name=name, runs=here.evals)
    for extra, there in others.items():
        if not there[name].error:
            return ClassNeeds(name=name, image=extra, runs=here.evals)
    kind, why = _why(here)
    obstacle = Obstacle(kind=kind, why=why, evals=here.evals)
    return ClassNeeds(name=name, fails=here.error, obstacles=(obstacle,))


def _why(here: Found) -> tuple[Kind, str]:
    if here.starts_containers:
        return "engine", "starts containers itself, which no container can do here"
    return explain(here.error)


def run(evals: Sequence[str], folder: Path, image: str = "") -> dict[str, Attempt]:
    """Run evals with `dummy`, one sample and no network; gives the newest attempt of each.

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
        env={**kept, "HF_HUB_OFFLINE": "1"},
    )
    layout = Layout(root=progress, model="dummy", eval_set="everything")
    return {each.eval: each for each in read_attempts(layout.attempts).records}


def with_outcomes(needs: Needs, attempts: Mapping[str, Attempt], layout: Layout) -> Needs:
    """What is needed, given how evals ended.

    Raises:
        SystemExit: one that can be imported was not run.
    """
    importable = (name for each in needs.classes if not each.fails for name in each.evals)
    if missing := [name for name in importable if name not in attempts]:
        raise SystemExit(f"{len(missing)} evals were not run, such as {missing[0]}")
    return Needs(
        evals_version=needs.evals_version,
        classes=tuple(_measured(each, attempts, layout) for each in needs.classes),
    )


def _measured(each: ClassNeeds, attempts: Mapping[str, Attempt], layout: Layout) -> ClassNeeds:
    if each.fails:
        return each
    failed: dict[tuple[Kind, str], list[str]] = {}
    for name in each.evals:
        attempt = attempts[name]
        if attempt.result is not Result.SUCCESS:
            failed.setdefault(reason(attempt, layout), []).append(name)
    without = {name for names in failed.values() for name in names}
    return ClassNeeds(
        name=each.name,
        image=each.image,
        runs=tuple(name for name in each.evals if name not in without),
        obstacles=tuple(
            Obstacle(kind=kind, why=why, evals=tuple(names))
            for (kind, why), names in failed.items()
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
