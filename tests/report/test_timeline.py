import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.report.timeline import PAUSE, Span, moment, stretches, times


def span(start: float, end: float, host: str = "h") -> Span:
    return Span(
        page="p",
        eval="e",
        model="m",
        host=host,
        shard="",
        state="done",
        reason="",
        start=start,
        end=end,
        duration=end - start,
    )


def test_what_ran_together_is_counted_once() -> None:
    """One at a time it would have been longer; pauses are no time of a run."""
    found = times([span(0, 10), span(5, 12), span(6, 7), span(100, 101)])
    assert (found.took, found.alone) == (13, 10 + 7 + 1 + 1)
    assert times([]).took == 0


def test_a_long_pause_parts_a_timeline() -> None:
    """A short one does not."""
    found = stretches([span(0, 10), span(10 + PAUSE, 20 + PAUSE), span(9999, 10_000)])
    assert [(one.start, one.end) for one in found] == [(0, 20 + PAUSE), (9999, 10_000)]


def test_hosts_have_lanes_of_their_own() -> None:
    """As many as ran there at once."""
    (found,) = stretches([span(0, 10), span(5, 15), span(10, 20), span(0, 20, "other")])
    assert [(host.host, host.count) for host in found.hosts] == [("h", 2), ("other", 1)]
    assert [bar.lane for bar in found.hosts[0].bars] == [0, 1, 0]
    assert [(bar.left, bar.width) for bar in found.hosts[0].bars] == [
        (0, 0.5),
        (0.25, 0.5),
        (0.5, 0.5),
    ]


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e4)), max_size=40))
def test_no_bar_covers_another(pairs: list[tuple[float, float]]) -> None:
    """And none leaves the chart."""
    for stretch in stretches(span(start, start + length) for start, length in pairs):
        for host in stretch.hosts:
            ends: dict[int, float] = {}
            for bar in host.bars:
                assert bar.span.start >= ends.get(bar.lane, 0)
                ends[bar.lane] = bar.span.end
                assert 0 <= bar.left <= bar.left + bar.width <= 1 + 1e-9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:01:00Z", 60),
        ("1970-01-01T00:01:00.5", 60.5),
        ("1970-01-01T02:00:00+01:00", 3600),
        ("", None),
        (None, None),
        ("soon", None),
        ("0001-01-01T00:00:00+23:00", -62135679600),
    ],
)
def test_times_are_utc_where_nothing_else_is_said(text: str | None, seconds: float | None) -> None:
    """What is no time is none; a record from elsewhere may hold anything."""
    assert moment(text) == seconds
