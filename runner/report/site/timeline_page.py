from collections.abc import Sequence
from typing import Any

from runner.report.timeline import Span, Stretch, stretches, times

# Rows of the list below the charts.
MOST_ROWS = 5000


def timeline_page(spans: Sequence[Span]) -> dict[str, Any]:
    """What the timeline's template shows."""
    ordered = sorted(spans, key=lambda span: span.start)
    return {
        "times": times(spans),
        "stretches": [_shown(stretch) for stretch in stretches(spans)],
        "spans": ordered[:MOST_ROWS],
        "more": len(ordered[MOST_ROWS:]),
    }


def _shown(stretch: Stretch) -> dict[str, Any]:
    hosts = [
        {
            "host": lanes.host,
            "lanes": lanes,
            "shards": ", ".join(sorted({bar.span.shard for bar in lanes.bars} - {""})),
        }
        for lanes in stretch.hosts
    ]
    length = stretch.end - stretch.start
    ticks = [stretch.start + length * quarter / 4 for quarter in range(5)]
    return {"start": stretch.start, "end": stretch.end, "hosts": hosts, "ticks": ticks}
