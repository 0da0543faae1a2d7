import re
from typing import Any

from evals.api import CompletionFn, CompletionResult
from evals.record import record_sampling


class Answer(CompletionResult):
    """What the calculator said."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_completions(self) -> list[str]:
        """Give its one answer."""
        return [self.text]


class Calculator(CompletionFn):
    """A model that adds the numbers that it finds in a question."""

    def __init__(self, digits: int = 0, **kwargs: Any) -> None:
        self.digits = digits

    def __call__(self, prompt: str | list[dict[str, str]], **kwargs: Any) -> Answer:
        """Answer a prompt, and record that for the log."""
        question = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", question)]
        answer = f"{sum(numbers):.{self.digits}f}" if numbers else "I see no numbers."
        record_sampling(prompt=prompt, sampled=answer)
        return Answer(answer)
