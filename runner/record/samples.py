import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from runner.record.events import Event, Facts, events_of, whole_event

# What one report shows of one eval; a hostile log must not fill memory or disk.
MOST_SAMPLES = 200_000
MOST_EVENTS = 1_000_000
# Of one sample.
MOST_OF_A_SAMPLE = 100
# A longer line is no event that a person would read.
LONGEST_EVENT = 4 * 1024 * 1024
LONGEST_ID = 200
# Longer numbers are text, for Python takes its time with them.
_DIGITS = 18


class Usage(msgspec.Struct, frozen=True):
    """Tokens, as an API counted them."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.prompt + other.prompt, self.completion + other.completion)

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
        events: type and data of each, in the log's order.
        left_out: how many more there are.
    """

    id: str
    correct: bool | None
    score: float | None
    events: list[tuple[str, Any]]
    left_out: int = 0


class SampleIndex:
    """Where the samples of an eval's logs are, in the natural order of their ids.

    The logs are read once for this, and once more by `samples`; in memory is what is said of each
    sample and event, never the log.

    Attributes:
        ids: of the samples.
        correct: whether each is right; None where the log does not say.
        scores: the figure of each; None where it has none.
        usage: tokens by the model's name as its API calls it, empty where it is not known.
        unreadable: lines that are no event and nothing else of oaieval's.
        left_out: samples and events that are too many.
    """

    def __init__(self, logs: Sequence[Path]) -> None:
        self._logs = logs
        self._samples = array("Q")
        self._files = array("H")
        self._offsets = array("Q")
        self._lengths = array("Q")
        self._correct: list[bool | None] = []
        self._scores: list[float | None] = []
        self._numbers: dict[str, int] = {}
        self.usage: dict[str, Usage] = {}
        self.unreadable = 0
        self.left_out = 0
        for number, path in enumerate(logs):
            self._read(number, path)
        names = list(self._numbers)
        self._order = sorted(range(len(names)), key=lambda one: _natural(names[one]))
        self.ids = [names[one] for one in self._order]
        self.scores = [self._scores[one] for one in self._order]
        self.correct = [self._correct[one] for one in self._order]
        if self.scores and not any(one is not None for one in self.correct):
            self.correct = _from_scores(self.scores)

    def samples(self) -> Iterator[Sample]:
        """Each sample with its events, in order."""
        rank = array("Q", bytes(8 * len(self._order)))
        for place, one in enumerate(self._order):
            rank[one] = place
        ranks = array("Q", (rank[one] for one in self._samples))
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("rb")).fileno() for path in self._logs]
            events: list[int] = []
            place = 0
            for event in sorted(range(len(ranks)), key=ranks.__getitem__):
                if ranks[event] != place:
                    yield self._sample(place, events, files)
                    place, events = ranks[event], []
                events.append(event)
            if events:
                yield self._sample(place, events, files)

    def _sample(self, place: int, events: list[int], files: list[int]) -> Sample:
        found = []
        for event in events[:MOST_OF_A_SAMPLE]:
            length = self._lengths[event]
            if length > LONGEST_EVENT:
                continue
            text = os.pread(files[self._files[event]], length, self._offsets[event])
            whole = whole_event(text)
            if whole is not None:  # else somebody has cut the log since it was indexed
                found.append((whole.type, whole.data))
        return Sample(
            id=self.ids[place],
            correct=self.correct[place],
            score=self.scores[place],
            events=found,
            left_out=len(events) - len(found),
        )

    def _read(self, number: int, path: Path) -> None:
        for event, offset, length in events_of(path):
            if event is None:
                self.unreadable += 1
                continue
            if event.sample_id is None:
                continue  # the spec, the final report
            sample = self._number(event.sample_id)
            if sample is None or len(self._samples) == MOST_EVENTS:
                self.left_out += 1
                continue
            self._samples.append(sample)
            self._files.append(number)
            self._offsets.append(offset)
            self._lengths.append(length)
            if isinstance(event.data, Facts):
                self._take(sample, event, event.data)

    def _number(self, sample_id: str | int) -> int | None:
        name = str(sample_id)
        if len(name) > LONGEST_ID:
            digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:16]
            name = f"{name[: LONGEST_ID - 17]}…{digest}"
        known = self._numbers.get(name)
        if known is None and len(self._numbers) < MOST_SAMPLES:
            known = self._numbers[name] = len(self._numbers)
            self._correct.append(None)
            self._scores.append(None)
        return known

    def _take(self, sample: int, event: Event, facts: Facts) -> None:
        match event.type:
            case "match":
                if facts.correct in (True, False):
                    before = self._correct[sample]
                    self._correct[sample] = bool(facts.correct) and before is not False
            case "metrics":
                self._scores[sample] = facts.figure
            case "sampling" if isinstance(facts.usage, dict):
                model = facts.model if isinstance(facts.model, str) else ""
                # An eval that makes names up must not fill memory with them.
                model = model if model in self.usage or len(self.usage) < 100 else ""  # noqa: PLR2004 - plain
                used = usage_of(facts.usage, "")
                self.usage[model] = self.usage[model] + used if model in self.usage else used


def usage_of(counts: dict[str, Any], prefix: str) -> Usage:
    """Tokens from an API's counts, or with the prefix `usage_` from a final report."""
    found = [counts.get(f"{prefix}{name}_tokens") for name in ("prompt", "completion")]
    prompt, completion = (one if type(one) is int and 0 <= one < 2**53 else 0 for one in found)
    return Usage(prompt, completion)


def _natural(name: str) -> tuple[str, int]:
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
