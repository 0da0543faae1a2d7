import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from importlib.resources import files
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from runner import __version__
from runner.report.facts import EvalFacts
from runner.report.text import duration, harmless
from runner.report.timeline import moment

ASSETS = ("report.css", "table.js", "data.js", "samples.js", "flips.js", "live.js")

_LONGEST = 300

# Larger figures are for no person.
_GREAT = 1e12


class Link(msgspec.Struct, frozen=True):
    """A page of the site, from its top."""

    path: str
    label: str


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What all pages of a report share.

    Attributes:
        nav: pages that every page leads to.
        made: when, in seconds since 1970.
        live: whether the pages look for newer ones.
        build: counts the reports of one `evalset view`.
        nonce: what a script of ours carries; nothing in a log knows it.
        version: of evalset.
    """

    nav: Sequence[Link]
    made: float
    live: bool = False
    build: int = 0
    nonce: str = msgspec.field(default_factory=lambda: secrets.token_urlsafe(16))
    version: str = __version__


class Pages:
    """Makes pages of templates; whatever they show is escaped, and cannot hide or turn text."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def page(self, template: str, path: str, **content: Any) -> bytes:  # noqa: ANN401 - a template's
        """One page.

        Args:
            template: its name.
            path: of the page, from the top of the site.
            content: what the template shows.
        """
        scripts = {"overview": ("table",), "timeline": ("table",), "eval": ("data", "samples")}
        return (
            self._environment.get_template(f"{template}.html")
            .render(
                site=self._site,
                here=path,
                up="../" * path.count("/"),
                scripts=scripts.get(template, ("data", "table", "flips")),
                **content,
            )
            .encode(errors="replace")
        )

    @cached_property
    def _environment(self) -> Environment:
        environment = Environment(
            loader=PackageLoader("runner.report.site"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_plain,
        )
        environment.filters |= {
            "chance": chance,
            "clock": clock,
            "count": count,
            "cut": cut,
            "duration": lambda value: "" if value is None else duration(value),
            "figure": figure,
            "money": money,
            "short": short,
            "signed": lambda value: f"{value:+.3f}".replace("-", "\N{MINUS SIGN}"),
            "summed": summed,
            "when": when,
        }
        return environment


def assets() -> Mapping[str, bytes]:
    """The style and the scripts of every page, by name."""
    folder = files("runner.report.site") / "assets"
    return {name: (folder / name).read_bytes() for name in ASSETS}


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a template shows
    return harmless(value) if type(value) is str else value


def figure(value: float) -> str:
    """A figure with what matters of it: `0.750`, `12.3`, `4,567`."""
    for most, form in ((10, ".3f"), (1000, ".1f")):
        if abs(value) < most:
            return format(value, form)
    return f"{value:,.0f}" if abs(value) < _GREAT else f"{value:.3g}"


def count(value: int) -> str:
    """A number of things: `12,345`."""
    return f"{value:,}"


def short(value: int) -> str:
    """A large number for people: `12.3k`, `4.56M`; empty for none."""
    for size, sign in ((1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")):
        if value >= size:
            return f"{value / size:.3g}{sign}"
    return str(value) if value else ""


def money(value: float | None, currency: str) -> str:
    """An amount: `12.34 USD`; small ones to a hundredth of a cent."""
    if value is None:
        return ""
    return f"{value:,.2f} {currency}" if value >= 1 or not value else f"{value:.4f} {currency}"


def chance(value: float | None) -> str:
    """A p-value: `0.031`, `< 0.001`."""
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"  # noqa: PLR2004 - plain


def cut(text: str) -> str:
    """The beginning of a text that may be long."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def when(value: float | str | None) -> str:
    """A time to the second, UTC; text from a record that is no time is shown as it is."""
    seconds = moment(value) if isinstance(value, str) else value
    if seconds is None:
        return cut(str(value or ""))
    return _shown(seconds, "%Y-%m-%d %H:%M:%S UTC")


def clock(seconds: float) -> str:
    """A time of day, UTC."""
    return _shown(seconds, "%H:%M:%S")


def _shown(seconds: float, form: str) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):  # before the year 1
        return ""


def summed(fact: EvalFacts) -> str:
    """What a cell of several models says below its score."""
    row = fact.row
    parts = [
        f"{row.samples:,} samples" if row.samples else "",
        "" if row.duration is None else duration(row.duration),
        f"{short(fact.tokens.total)} tokens" if fact.tokens.total else "",
        f"{row.attempts} attempts" if row.attempts > 1 else "",
    ]
    return " · ".join(part for part in parts if part)
