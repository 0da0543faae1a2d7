"""Answers files as a gateway leaves them."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runner.model import Command
from runner.records.answers import (
    Answer,
    AnswersFile,
    Failed,
    Given,
    Kept,
    Request,
    Reserved,
    Sent,
    ShortLines,
    Usage,
)
from runner.records.answers_index import Index, index_of
from runner.records.layout import Layout


def kept_in(content: bytes, known: Index | None = None) -> list[Kept]:
    """All answers of a file with this content, in order."""

    def read(start: int, size: int) -> bytes:
        return content[start : start + size]

    index = index_of(io.BytesIO(content), known)
    keys = {place.line.key for place in ShortLines(io.BytesIO(content))}
    found = (each for key in keys for each in index.kept(key, read))
    return sorted(found, key=lambda kept: kept.start)


START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Answered:
    """Writes the answers of one eval, second by second.

    Attributes:
        path: of the file.
    """

    def __init__(
        self,
        root: Path,
        command: Sequence[str],
        *,
        model: str,
        eval_set: str,
        start: datetime = START,
    ) -> None:
        layout = Layout(root=root, model=model, eval_set=eval_set)
        self.path = layout.answers_of(Command(command))
        self._model = model
        self._now = start
        self._count = 0
        self._paid: list[str] = []

    def sent(self, tokens: int = 100, usd: float | None = None) -> str:
        """A request goes out, and nothing comes back; gives its id."""
        self._count += 1
        self._now += timedelta(seconds=1)
        name = f"{self._count:016x}"
        key = f"{self._count:064x}"
        with AnswersFile(self.path) as file:
            content = {"model": self._model, "messages": [{"role": "user", "content": name}]}
            path = "/v1/chat/completions"
            file.write(Request(key=key, route="openai", method="POST", path=path, body=content))
            file.write(
                Sent(
                    id=name,
                    key=key,
                    attempt="first",
                    at=self._now.isoformat(),
                    model=self._model,
                    reserved=Reserved(tokens=tokens, usd=usd),
                )
            )
        return name

    def paid(
        self,
        count: int = 1,
        *,
        tokens: tuple[int, int] = (60, 10),
        usd: float | None = None,
        seconds: float = 0.5,
    ) -> None:
        """Requests are answered, one after the other."""
        for _ in range(count):
            name = self.sent()
            self._paid.append(name)
            self._answer(name, seconds, 200, Usage(input=tokens[0], output=tokens[1]), usd)

    def refused(self, status: int = 400) -> None:
        """A request is answered by an error, which costs nothing."""
        self._answer(self.sent(), 0.1, status, None, None)

    def failed(self, *, billed: bool | None = False) -> None:
        """A request comes to nothing."""
        name = self.sent()
        with AnswersFile(self.path) as file:
            file.write(Failed(id=name, status=429, billed=billed))

    def replayed(self, count: int = 1, *, attempt: str = "second") -> None:
        """The oldest answers are given to another attempt."""
        with AnswersFile(self.path) as file:
            for name in self._paid[:count]:
                file.write(Given(id=name, attempt=attempt))

    def _answer(
        self, name: str, seconds: float, status: int, usage: Usage | None, usd: float | None
    ) -> None:
        self._now += timedelta(seconds=seconds)
        with AnswersFile(self.path) as file:
            file.write(
                Answer(
                    id=name,
                    key=f"{int(name, 16):064x}",
                    attempt="first",
                    at=self._now.isoformat(),
                    seconds=seconds,
                    status=status,
                    body='{"choices":[{"message":{"content":"So."}}]}',
                    model=self._model,
                    usage=usage,
                    usd=usd,
                )
            )
