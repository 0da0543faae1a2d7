import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from runner.commands.command_line import evalset_command
from runner.errors import UsageError
from runner.options import PROGRESS_DIR, AsJson, EvalSet, Model, ProgressDir
from runner.records.layout import Layout
from runner.records.state import RunState, in_words
from runner.report.text import json_line, print_warning

if TYPE_CHECKING:
    from runner.records.spending import Spent


def show(root: Path, model: str, eval_set: str, *, out: TextIO, json: bool) -> None:
    """Print what the answers of each eval add up to.

    Raises:
        UsageError: there are none.
    """
    from runner.records.spending import read_spent
    from runner.report.model_use import spent_line

    layout = Layout.named(root, model, eval_set)
    spent = read_spent(layout, RunState.from_directory(layout).commands)
    if not spent.evals:
        raise UsageError(
            f"{layout.root} has no answers of {model} {eval_set}",
            "a run records those of models that it asks through the gateway, and "
            "`evalset snapshot pull --snapshot-answers` brings those of a branch",
        )
    for message in spent.damaged:
        print_warning(message)
    if json:
        print(json_line(_as_json(layout, spent)), file=out)
        return
    from runner.report.table import print_answers

    print_answers(out, spent)
    line = spent_line(spent)
    if spent.totals.usd is not None and spent.totals.unpriced:
        line += f"; no price was known for {spent.totals.unpriced:,} tokens"
    print(line or "answers: none yet", file=out)


def _as_json(layout: Layout, spent: "Spent") -> dict[str, Any]:
    from runner.report.model_use import totals_json

    return {
        "model": layout.model,
        "eval_set": layout.eval_set,
        "gateway_works": spent.working,
        "total": totals_json(spent.totals),
        "evals": [
            {
                "eval": one.eval,
                "arguments": in_words(one.command.arguments) if one.command else "",
                "file": str(one.file.relative_to(layout.root)),
                **totals_json(one.totals),
            }
            for one in spent.evals
        ],
    }


@evalset_command("evalset answers gpt-4 test-basic")
def command(
    *,
    model: Model,
    eval_set: EvalSet,
    progress_dir: ProgressDir = PROGRESS_DIR,
    as_json: AsJson = False,
) -> None:
    """Show what the answers of models cost, and what was saved by giving them again.

    For each eval: requests that were sent, answers that were paid for, answers that an eval was
    given again for free, tokens, what they cost where prices were known, and requests of which
    nobody knows whether they were paid for.
    """
    show(progress_dir, model, eval_set, out=sys.stdout, json=as_json)
