from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec

# Attempts and requests further apart than this are drawn apart.
PAUSE = 600.0

# Parts of a stretch in which requests are counted.
PARTS = 120


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt on a timeline.

    Attributes:
        page: id of its eval's page.
        model: what its column is called.
        shard: `I/N`; empty where there was none.
        state: `done`, `failed` or `lost`.
        reason: empty for a success.
        start: seconds since 1970, like `end`.
        duration: by the runner's clock.
    """

    page: str
    eval: str
    model: str
    host: str
    shard: str
    state: str
    reason: str
    start: float
    end: float
    duration: float


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A span in its place: `left` and `width` are parts of the stretch, from 0 to 1."""

    span: Span
    lane: int
    left: float
    width: float


class Lanes(msgspec.Struct, frozen=True, kw_only=True):
    """What ran on one host, each lane one after another."""

    host: str
    count: int
    bars: Sequence[Bar]

    @property
    def shards(self) -> str:
        """Those that ran there."""
        return ", ".join(sorted({bar.span.shard for bar in self.bars} - {""}))


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one part of a stretch: `left` and `height` are from 0 to 1."""

    start: float
    count: int
    left: float
    height: float


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """A time without a long pause.

    Attributes:
        requests: how many were answered in each of `PARTS` equal parts; empty for none.
    """

    start: float
    end: float
    hosts: Sequence[Lanes]
    requests: Sequence[int] = ()

    @property
    def part(self) -> float:
        """Seconds of one of these parts."""
        return _length(self.start, self.end) / PARTS

    @property
    def columns(self) -> list[Column]:
        """What a chart of the requests consists of."""
        most = max(self.requests, default=0)
        return [
            Column(
                start=self.start + place * self.part,
                count=count,
                left=place / PARTS,
                height=count / most,
            )
            for place, count in enumerate(self.requests)
            if count
        ]

    @property
    def ticks(self) -> list[float]:
        """Times that its axis tells."""
        return [self.start + (self.end - self.start) * quarter / 4 for quarter in range(5)]


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """How long attempts took.

    Attributes:
        took: seconds in which at least one ran.
        alone: seconds that they would have taken one at a time.
    """

    took: float
    alone: float


def moment(text: str | None) -> float | None:
    """A time as records have it, in seconds since 1970; None for anything else."""
    try:
        found = datetime.fromisoformat(text or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def stretches(spans: Iterable[Span], moments: Iterable[float] = ()) -> list[Stretch]:
    """Cut spans where nothing ran and no request was answered for long, and place them."""
    found: list[tuple[list[Span], list[float]]] = []
    end = 0.0
    events = [(span.start, span.end, span) for span in spans]
    answered = [(when, when, None) for when in moments]
    for start, until, span in sorted([*events, *answered], key=lambda one: one[0]):
        if not found or start > end + PAUSE:
            found.append(([], []))
            end = until
        if span is None:
            found[-1][1].append(start)
        else:
            found[-1][0].append(span)
        end = max(end, until)
    return [_placed(*each) for each in found]


def _length(start: float, end: float) -> float:
    return max(end - start, 0.001)


def times(spans: Sequence[Span]) -> Times:
    """How long spans took together, and would have taken one at a time."""
    took, end = 0.0, float("-inf")
    for span in sorted(spans, key=lambda one: one.start):
        took += max(0.0, span.end - max(span.start, end))
        end = max(end, span.end)
    return Times(took=took, alone=sum(span.duration for span in spans))


def _placed(spans: Sequence[Span], moments: Sequence[float]) -> Stretch:
    start = min([*(span.start for span in spans), *moments[:1]])
    end = max([*(span.end for span in spans), *moments[-1:]])
    whole = _length(start, end)
    hosts = []
    for host in sorted({span.host for span in spans}):
        free: list[float] = []
        bars = []
        for span in (span for span in spans if span.host == host):
            lane = next((n for n, until in enumerate(free) if until <= span.start), len(free))
            free[lane : lane + 1] = [span.end]
            left, width = (span.start - start) / whole, (span.end - span.start) / whole
            bars.append(Bar(span=span, lane=lane, left=left, width=width))
        hosts.append(Lanes(host=host, count=len(free), bars=bars))
    requests = [0] * PARTS if moments else []
    for when in moments:
        requests[min(int((when - start) / whole * PARTS), PARTS - 1)] += 1
    return Stretch(start=start, end=end, hosts=hosts, requests=requests)
