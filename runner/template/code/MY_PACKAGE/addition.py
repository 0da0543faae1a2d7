import random
import re
from typing import Any

import evals
import evals.metrics
from evals.api import CompletionFn
from evals.record import RecorderBase


class Addition(evals.Eval):
    """Asks a question about numbers, and compares the last number of the answer."""

    def __init__(
        self,
        completion_fns: list[CompletionFn],
        samples_jsonl: str,
        *args: Any,
        tolerance: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(completion_fns, *args, samples_jsonl=samples_jsonl, **kwargs)
        self.tolerance = tolerance

    def eval_sample(self, sample: dict[str, Any], rng: random.Random) -> None:
        """Ask one question; oaieval calls it for each sample."""
        prompt = [
            {"role": "system", "content": "Answer with a number and nothing else."},
            {"role": "user", "content": sample["question"]},
        ]
        answer = self.completion_fn(prompt=prompt).get_completions()[0]
        numbers = re.findall(r"-?\d+(?:\.\d+)?", answer)
        correct = bool(numbers) and abs(float(numbers[-1]) - sample["answer"]) <= self.tolerance
        evals.record.record_match(correct, expected=sample["answer"], picked=answer)

    def run(self, recorder: RecorderBase) -> dict[str, float]:
        """Ask all questions, and give the final report."""
        self.eval_all_samples(recorder, self.get_samples())
        return {"accuracy": evals.metrics.get_accuracy(recorder.get_events("match"))}
