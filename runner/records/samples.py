import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from runner.records.logs import LONGEST_EVENT, Event, event_of, read_lines

# What one report shows of one eval; a hostile log must not fill memory or disk.
MOST_SAMPLES = 200_000
MOST_EVENTS = 1_000_000
MOST_OF_A_SAMPLE = 100
LONGEST_ID = 200

# Logs up to this many bytes are read only once, because they fit into memory.
SMALL = 4 * 1024 * 1024

# Models that tokens are counted for; an eval that makes names up must not fill memory with them.
MOST_MODELS = 100

# No count and no figure is as great.
GREATEST = 2**53

# Of metrics, the usual one first.
_FIGURES = ("accuracy", "score", "f1_score", "bleu", "metascore")

# Longer numbers are text, because Python is slow with them.
_DIGITS = 18


class LoggedUsage(msgspec.Struct, frozen=True):
    """Tokens, as an API counted them."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: "LoggedUsage") -> "LoggedUsage":
        return LoggedUsage(self.prompt + other.prompt, self.completion + other.completion)

    @property
    def total(self) -> int:
        """Both kinds."""
        return self.prompt + self.completion


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One sample of an eval, with what was logged of it.

    Attributes:
        id: as oaieval calls it; a very long one is cut.
        correct: None where the log does not say.
        score: its figure, None where it has none.
        events: in the log's order.
        size: of all its lines, in bytes.
        events_left_out: how many more there are.
    """

    id: str
    correct: bool | None
    score: float | None
    events: list[Event]
    size: int
    events_left_out: int = 0


class SampleIndex:
    """Where the samples of an eval's logs are, in the natural order of their ids.

    Large logs are read once for this, and once more by `samples`; in memory is then what is said of
    each sample and where each event is, never the log.

    Attributes:
        ids: of the samples.
        correct: whether each is right; None where the log does not say.
        scores: the figure of each; None where it has none.
        usage: tokens by the model's name as its API calls it, empty where it is not known.
        unreadable: lines that are no event and nothing else of oaieval's.
        events_left_out: samples and events that are too many, or too long.
    """

    def __init__(self, logs: Sequence[Path]) -> None:
        self._logs = logs
        self._small = sum(path.stat().st_size for path in logs) <= SMALL
        # Of each sample its events; of large logs their numbers, by which these say where they are.
        self._events: list[list[Any]] = []
        self._sizes: list[int] = []
        self._files = array("H")
        self._offsets = array("Q")
        self._lengths = array("Q")
        self._count = 0
        self._correct: list[bool | None] = []
        self._scores: list[float | None] = []
        self._numbers: dict[str, int] = {}
        self._tokens: dict[str, list[int]] = {}
        self.unreadable = 0
        self.events_left_out = 0
        for number, path in enumerate(logs):
            self._read(number, path)
        names = list(self._numbers)
        self._order = sorted(range(len(names)), key=lambda one: natural(names[one]))
        self.ids = [names[one] for one in self._order]
        self.scores = [self._scores[one] for one in self._order]
        self.correct = [self._correct[one] for one in self._order]
        if self.scores and not any(one is not None for one in self.correct):
            self.correct = _from_scores(self.scores)
        self.usage = {model: LoggedUsage(*counts) for model, counts in self._tokens.items()}

    def samples(self) -> Iterator[Sample]:
        """Each sample with its events, in order."""
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("rb")).fileno() for path in self._logs]
            for place, one in enumerate(self._order):
                found = self._events[one]
                events = found if self._small else self._again(found, files)
                yield Sample(
                    id=self.ids[place],
                    correct=self.correct[place],
                    score=self.scores[place],
                    events=events[:MOST_OF_A_SAMPLE],
                    size=self._sizes[one],
                    events_left_out=len(found) - min(len(events), MOST_OF_A_SAMPLE),
                )

    def _again(self, numbers: list[int], files: list[int]) -> list[Event]:
        found = []
        for number in numbers[:MOST_OF_A_SAMPLE]:
            descriptor = files[self._files[number]]
            text = os.pread(descriptor, self._lengths[number], self._offsets[number])
            found.append(event_of(text))
        # One that cannot be read now has been cut off since.
        return [event for event in found if event is not None]

    def _read(self, file: int, path: Path) -> None:
        numbers, events, small = self._numbers, self._events, self._small
        sizes = self._sizes
        for line in read_lines(path):
            event = line.event
            if event is None:
                self.events_left_out += line.size > LONGEST_EVENT
                self.unreadable += line.size <= LONGEST_EVENT
                continue
            if event.sample_id is None:
                continue  # the spec, the final report
            sample = numbers.get(event.sample_id)  # type: ignore[arg-type] # or a number
            if sample is None:
                sample = self._number(event.sample_id)
            if sample is None or self._count == MOST_EVENTS:
                self.events_left_out += 1
                continue
            if small:
                events[sample].append(event)
            else:
                events[sample].append(self._count)
                self._files.append(file)
                self._offsets.append(line.start)
                self._lengths.append(line.size)
            self._count += 1
            sizes[sample] += line.size
            if type(event.data) is dict:
                self._take(sample, event.type, event.data)

    def _number(self, sample_id: str | int) -> int | None:
        name = str(sample_id)
        if len(name) > LONGEST_ID:
            digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:16]
            name = f"{name[: LONGEST_ID - 17]}…{digest}"
        known = self._numbers.get(name)
        if known is None and len(self._numbers) < MOST_SAMPLES:
            known = self._numbers[name] = len(self._numbers)
            self._events.append([])
            self._sizes.append(0)
            self._correct.append(None)
            self._scores.append(None)
        return known

    def _take(self, sample: int, kind: str, data: dict[str, Any]) -> None:
        if kind == "match":
            correct = data.get("correct")
            if correct in (True, False):
                self._correct[sample] = bool(correct) and self._correct[sample] is not False
        elif kind == "metrics":
            self._scores[sample] = _figure(data)
        elif kind == "sampling":
            used = data.get("usage")
            if type(used) is dict:
                counts = self._counts(data.get("model"))
                counts[0] += _count(used.get("prompt_tokens"))
                counts[1] += _count(used.get("completion_tokens"))

    def _counts(self, model: object) -> list[int]:
        """Tokens of a model so far; those of models that are too many are under no name."""
        name = model if isinstance(model, str) else ""
        if name not in self._tokens and len(self._tokens) >= MOST_MODELS:
            name = ""
        return self._tokens.setdefault(name, [0, 0])


def reported(report: dict[str, Any] | None) -> LoggedUsage:
    """Tokens, as a final report adds them up."""
    report = report or {}
    prompt, completion = report.get("usage_prompt_tokens"), report.get("usage_completion_tokens")
    return LoggedUsage(_count(prompt), _count(completion))


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < GREATEST else 0


def _figure(data: dict[str, Any]) -> float | None:
    for name in _FIGURES:
        value = data.get(name)
        if isinstance(value, int | float) and abs(value) < GREATEST:
            return float(value)
    return None


def natural(name: str) -> tuple[str, int]:
    """What sorts `demo.dev.2` before `demo.dev.10`."""
    head, _, tail = name.rpartition(".")
    if tail.isdecimal() and len(tail) <= _DIGITS:
        return head, int(tail)
    return name, -1


def _from_scores(scores: list[float | None]) -> list[bool | None]:
    """Right and wrong where every score is one or nought: a grader's yes and no."""
    if not set(scores) <= {0.0, 1.0, None}:
        return [None] * len(scores)
    return [None if one is None else one == 1.0 for one in scores]
