import re
from collections.abc import Iterable, Mapping
from typing import Any

from runner.plan.forms import forms
from runner.plan.secret import secret_values

# What stands where a secret stood.
MASKED = "***"


class Mask:
    """Takes the values of variables that a container got out of what is recorded or shown.

    A value that a job's own command line has is left alone: it is no secret, and a log's name may
    have it.
    """

    def __init__(self, handed_in: Mapping[str, str], *, public: Iterable[str] = ()) -> None:
        shown = " ".join(public)
        texts = {
            form.decode(errors="surrogateescape")
            for value in secret_values(handed_in)
            if value not in shown
            for form in forms(value)
        }
        # The longest first, for one may begin with another.
        ordered = sorted(filter(None, texts), key=lambda text: (-len(text), text))
        self._found = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """The text without the values, in whichever form."""
        return self._found.sub(MASKED, text) if self._found else text

    def value(self, value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
        """What was read from JSON, without the values: in its texts, names and numbers."""
        if self._found is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(name)): self.value(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        if isinstance(value, int | float) and self._found.search(str(value)):
            return MASKED
        return value


# Where nothing was handed in.
NO_MASK = Mask({})
