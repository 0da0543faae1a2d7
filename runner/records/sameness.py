"""Whether two runs of an eval say the same, in their final reports and in their logs."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import msgspec

from runner.files import UNREADABLE, named
from runner.records.logs import LONGEST_LINE, plain_json
from runner.records.samples import natural

# Differences that are described; the others are counted.
MOST = 5

# Of one sample.
MOST_OF_A_SAMPLE = 2

# Samples and events that are looked at; a hostile log must not fill memory.
MOST_SAMPLES = 1_000_000
MOST_EVENTS = 10_000

# Characters of a value that a line shows, and of what is alike before two texts differ.
LONGEST = 60
ALIKE = 20

# As deep as values are compared part by part.
DEEPEST = 50

# Figures that are added up in another order differ by less than this part of themselves.
ROUNDING = 1e-12

# Figures that openai/evals draws at random, without a seed: standard deviations by resampling.
_RANDOM = re.compile(r"boo?t?strap|^(?:baseline|retrieval|delta)_std$", re.IGNORECASE)

# What a log says of its run that each run has of its own.
_OWN = ("run_id", "created_at", "created_by")

# Stands for what is not there.
_NOTHING = object()


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where two runs differ.

    Attributes:
        where: `final report, accuracy`, for example.
        expected: what the record has there, as JSON, shortened.
        found: what the other run has.
    """

    where: str
    expected: str
    found: str


class Sameness(msgspec.Struct, frozen=True, kw_only=True):
    """How two runs of an eval compare.

    Attributes:
        differences: the first ones.
        more: how many more final figures and samples differ.
        random: figures that are drawn at random, by name, with what each run has.
        samples: how many were compared.
        samples_left_out: samples that were too many to compare.
    """

    differences: tuple[Difference, ...] = ()
    more: int = 0
    random: tuple[Difference, ...] = ()
    samples: int = 0
    samples_left_out: int = 0

    def __add__(self, other: "Sameness") -> "Sameness":
        differences = (*self.differences, *other.differences)
        return Sameness(
            differences=differences[:MOST],
            more=self.more + other.more + len(differences[MOST:]),
            random=(*self.random, *other.random),
            samples=self.samples + other.samples,
            samples_left_out=self.samples_left_out + other.samples_left_out,
        )


def compare_values(expected: object, found: object, where: str) -> Sameness:
    """Compare final reports, or other values, part by part."""
    random, others = [], []
    for part in _differing(expected, found, ()):
        if any(map(_RANDOM.search, part.path)):
            random.append(part)
        elif not part.is_rounding:
            others.append(part)
    return Sameness(
        differences=tuple(part.described(where) for part in others[:MOST]),
        more=len(others[MOST:]),
        random=tuple(part.described(where) for part in random[:MOST]),
    )


def random_figures(report: object) -> list[str]:
    """Names of a report's figures that are drawn at random."""
    if not isinstance(report, dict):
        return []
    return [str(name) for name in report if _RANDOM.search(str(name))]


def compare_logs(
    expected: Sequence[Path], found: Sequence[Path], *, reports: tuple[object, object]
) -> Sameness:
    """Compare oaieval's logs: events by sample, in any order, without times and ids.

    Memory holds a sum of hashes for each sample, and the events of a few that differ.

    Args:
        reports: the final reports that the records of both have, which were compared. Those in
            the logs are compared where they are others.

    Raises:
        EnvironmentFault: one of them cannot be read.
    """
    ours, theirs = _digest_of(expected), _digest_of(found)
    differing = [
        sample
        for sample in dict.fromkeys([*ours.samples, *theirs.samples])
        if ours.samples.get(sample) != theirs.samples.get(sample)
    ]
    differing.sort(key=natural)
    chosen = differing[:MOST]
    events = _events(expected, chosen), _events(found, chosen)
    differences: list[Difference] = []
    described = 0
    for sample in chosen:
        if len(differences) < MOST:
            differences += _of_sample(sample, *events)
            described += 1
    of_samples = Sameness(
        differences=tuple(differences[:MOST]),
        more=len(differing) - described,
        samples=len(ours.samples.keys() | theirs.samples.keys()),
        samples_left_out=ours.samples_left_out + theirs.samples_left_out,
    )
    unreadable = compare_values(ours.unreadable, theirs.unreadable, "lines that are no events")
    report = Sameness()
    if (ours.report, theirs.report) != reports:
        report = compare_values(ours.report, theirs.report, "final report in the log")
    return report + compare_values(ours.spec, theirs.spec, "spec") + unreadable + of_samples


class _Line(msgspec.Struct, gc=False):
    """One line of a log."""

    sample_id: str | int | None = None
    type: str = ""
    data: Any = None
    spec: Any = None
    final_report: Any = None

    @property
    def content(self) -> bytes:
        """What counts of an event, the same whatever the order of names in it."""
        return msgspec.json.encode([self.type, self.data], order="sorted")


class _Digest(msgspec.Struct):
    """What logs hold, in short.

    Attributes:
        spec: what oaieval says of the run at the start, without what is that run's own.
        report: the last final one.
        samples: of each the number of its events, and a sum of their hashes.
        unreadable: lines that are no events.
    """

    spec: Any = None
    report: Any = None
    samples: dict[str, tuple[int, int]] = {}
    unreadable: int = 0
    samples_left_out: int = 0


def _digest_of(paths: Sequence[Path]) -> _Digest:
    digest = _Digest()
    for line in _lines(paths):
        if line is None:
            digest.unreadable += 1
        elif line.sample_id is not None:
            sample = str(line.sample_id)
            if sample not in digest.samples and len(digest.samples) == MOST_SAMPLES:
                digest.samples_left_out += 1
                continue
            count, total = digest.samples.get(sample, (0, 0))
            hashed = hashlib.blake2b(line.content, digest_size=16).digest()
            total = (total + int.from_bytes(hashed)) % 2**128
            digest.samples[sample] = (count + 1, total)
        elif isinstance(line.spec, dict):
            digest.spec = {name: value for name, value in line.spec.items() if name not in _OWN}
        elif line.final_report:  # an empty one says nothing
            digest.report = line.final_report
    return digest


def _events(paths: Sequence[Path], samples: Sequence[str]) -> dict[str, list[_Line]]:
    """The events of some samples, in the log's order."""
    if not samples:
        return {}
    wanted = set(samples)
    found: dict[str, list[_Line]] = {}
    lines = (
        line
        for line in _lines(paths)
        if line is not None and line.sample_id is not None and str(line.sample_id) in wanted
    )
    for line in islice(lines, MOST_EVENTS):
        found.setdefault(str(line.sample_id), []).append(line)
    return found


def _lines(paths: Sequence[Path]) -> Iterator[_Line | None]:
    """The lines of logs; None is one that cannot be read or is too long."""
    for path in paths:
        with named(path, "read"), path.open("rb") as file:
            while text := file.readline(LONGEST_LINE):
                if len(text) < LONGEST_LINE or text.endswith(b"\n"):
                    if text.strip():
                        yield _decoded(text)
                    continue
                while text and not text.endswith(b"\n"):
                    text = file.readline(LONGEST_LINE)
                yield None


_decode = msgspec.json.Decoder(_Line).decode


def _decoded(text: bytes) -> _Line | None:
    try:
        return _decode(text)
    except UNREADABLE:
        pass
    try:
        return _decode(plain_json(text))
    except UNREADABLE:
        return None


def _of_sample(
    sample: str, ours: dict[str, list[_Line]], theirs: dict[str, list[_Line]]
) -> list[Difference]:
    """What differs in a sample, its first events first."""
    expected, found = _without_common(ours.get(sample, []), theirs.get(sample, []))
    differences = []
    for kind in dict.fromkeys(line.type for line in [*expected, *found]):
        pairs = zip_longest(
            [line.data for line in expected if line.type == kind],
            [line.data for line in found if line.type == kind],
            fillvalue=_NOTHING,
        )
        for one, other in pairs:
            first = next(_differing(one, other, ()), _Part((), one, other))
            differences.append(first.described(f"sample {sample}, {kind}"))
    return differences[:MOST_OF_A_SAMPLE]


def _without_common(
    ours: Sequence[_Line], theirs: Sequence[_Line]
) -> tuple[list[_Line], list[_Line]]:
    """The events of each that the other has not, as often as it has not."""
    one, other = ([line.content for line in lines] for lines in (ours, theirs))
    return _less(ours, one, Counter(other)), _less(theirs, other, Counter(one))


def _less(
    lines: Sequence[_Line], contents: Sequence[bytes], taken: "Counter[bytes]"
) -> list[_Line]:
    left = []
    for line, content in zip(lines, contents, strict=True):
        if taken[content]:
            taken[content] -= 1
        else:
            left.append(line)
    return left


class _Part(msgspec.Struct, frozen=True):
    """Where two values differ: the way there, and what each has."""

    path: tuple[str, ...]
    expected: object
    found: object

    @property
    def is_rounding(self) -> bool:
        return (
            isinstance(self.expected, float)
            and isinstance(self.found, float)
            and math.isclose(self.expected, self.found, rel_tol=ROUNDING)
        )

    def described(self, where: str) -> Difference:
        one, other = _shown(self.expected), _shown(self.found)
        start = 0
        if min(len(one), len(other)) > LONGEST:
            pairs = enumerate(zip(one, other, strict=False))
            alike = next((index for index, pair in pairs if len({*pair}) > 1), 0)
            start = max(0, alike - ALIKE)
        return Difference(
            where=", ".join(filter(None, (where, ".".join(self.path)))),
            expected=_shortened(one, start),
            found=_shortened(other, start),
        )


def _differing(one: object, other: object, path: tuple[str, ...]) -> Iterator[_Part]:
    if len(path) < DEEPEST:
        if isinstance(one, dict) and isinstance(other, dict):
            for name in dict.fromkeys([*one, *other]):
                pair = one.get(name, _NOTHING), other.get(name, _NOTHING)
                yield from _differing(*pair, (*path, str(name)))
            return
        if isinstance(one, list) and isinstance(other, list):
            for index, pair in enumerate(zip_longest(one, other, fillvalue=_NOTHING)):
                yield from _differing(*pair, (*path, str(index)))
            return
    if type(one) is not type(other) or one != other:
        yield _Part(path, one, other)


def _shown(value: object) -> str:
    if value is _NOTHING:
        return "nothing"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _shortened(text: str, start: int) -> str:
    end = start + LONGEST
    return f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}"
