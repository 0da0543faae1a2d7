import contextlib
import importlib
import os
import threading
from typing import TextIO

from runner.job import Job, Outcome, Result
from runner.report.score import main_score
from runner.report.text import duration, evals, one_line


class PlainConsole:
    """Shows a run as lines, for logs, pipes and CI."""

    wants_samples = False

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._total = 0
        self._finished = 0
        self._prepared = False

    def begin(self, *, total: int, done: int, todo: int) -> None:
        """Say what is done and what will be run."""
        self._total, self._finished = total, done
        done_already = f", {done} of them finished before" if done else ""
        self.note(f"{evals(total)}{done_already}; {todo} to run")

    def note(self, text: str) -> None:
        """Write one line; a reader that has gone, as in `| head`, stops no run."""
        with contextlib.suppress(BrokenPipeError):
            print(one_line(text), file=self._out, flush=True)

    def warn(self, text: str) -> None:
        """Write one line that says that it is a warning."""
        self.note(f"{annotation('warning')}{text}")

    def started(self, job: Job) -> None:
        """Write which eval was started."""
        self._prepare_the_end()
        self.note(f"started  {job.eval}")

    def progressed(self, job: Job, samples: int, of: int) -> None:
        """Lines would be too many."""

    def ended(self, outcome: Outcome, *, again: bool, tail: tuple[str, ...]) -> None:
        """Write how an eval ended, and for a failure the end of what it printed."""
        line, details = ended_lines(outcome, again=again, tail=tail)
        if outcome.result is Result.SUCCESS:
            self._finished += 1
            line += f"  [{self._finished}/{self._total}]"
        elif not again:
            line = f"{annotation('error')}{line}"
        self.note(line)
        for detail in details:
            self.note(f"    {detail}")
        for warning in outcome.warnings:
            self.note(f"    warning: {warning}")

    def end(self) -> None:
        """There is nothing to put away."""

    def _prepare_the_end(self) -> None:
        """Import what prints the table while the first eval runs, for rich takes its time."""
        if not self._prepared:
            self._prepared = True
            name = "runner.report.summary"
            threading.Thread(target=importlib.import_module, args=(name,), daemon=True).start()


def ended_lines(
    outcome: Outcome, *, again: bool, tail: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """How an attempt ended: one line, and for a failure the lines that show why."""
    took = duration(outcome.duration)
    if outcome.result is Result.SUCCESS:
        score = main_score(outcome.final_report)
        result = f"  {score.name} {score.value:.3g}" if score else ""
        return f"finished {outcome.job.eval}  ({took}){result}", ()
    what = "again in a moment" if again else outcome.result.value
    line = f"{what}  {outcome.job.eval}  ({took}): {outcome.reason}"
    where = (f"whole output: {outcome.console_log}",) if outcome.console_log else ()
    return line, (*(f"| {text}" for text in tail), *where)


def annotation(kind: str) -> str:
    """What makes a line stand out: GitHub's own form on Actions, else the word."""
    return f"::{kind}::" if os.environ.get("GITHUB_ACTIONS") == "true" else f"{kind}: "
