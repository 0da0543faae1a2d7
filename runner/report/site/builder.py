import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from runner.errors import UsageError
from runner.files import make_folder, named
from runner.gateway.prices import Prices
from runner.model import State
from runner.records.logs import recorded_tail
from runner.report.comparison import Comparison, Grid, Line, Pair, compared, grid_of, pairs_of
from runner.report.facts import Cell, EvalFacts, Source, totals_of
from runner.report.site import pages
from runner.report.site.pages import PageLink, Pages, Site
from runner.report.site.sample_pages import beginning, call, encode, index_script, parts_of
from runner.report.timeline import stretches
from runner.secrets import NO_MASK, Mask

# Says that a folder is a report of ours, which may be replaced.
MARK = "evalset-report.json"

# All that a report has at its top; `.nojekyll` has GitHub Pages serve every file as it is.
TOP = {MARK, ".nojekyll", "assets", "compare", "evals", "index.html", "state.json", "timeline.html"}


class ReportFolder:
    """A folder that is filled next to its place, and put there whole.

    Attributes:
        path: where it will be.
        made: where it is filled.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._check()
        self.made = self._next_to("new")
        self._folders: set[Path] = set()

    def __enter__(self) -> Self:
        with named(self.made, "create the folder", option="-o"):
            self._remove(self.made)
            make_folder(self.made, option="-o")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._put()
        finally:
            self._remove(self.made)

    def write(self, name: str, content: bytes) -> None:
        """Write a file; its name is ours, because nothing from a log names a file."""
        path = self.made / name
        with named(path, "write", option="-o"):
            if path.parent not in self._folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._folders.add(path.parent)
            path.write_bytes(content)

    def _check(self) -> None:
        with named(self.path, "read", option="-o"):
            try:
                has = {entry.name for entry in self.path.iterdir()}
            except FileNotFoundError:
                return
            except NotADirectoryError:
                raise UsageError(f"{self.path} is a file", "name a folder with -o") from None
        if has and MARK not in has:
            raise UsageError(
                f"{self.path} is not empty and not a report of evalset",
                "name another folder with -o",
            )
        if foreign := sorted(has - TOP):
            more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            names = f"`{foreign[0]}`{more}"
            raise UsageError(
                f"{self.path} holds {names}, which is not part of a report and would be lost",
                "move it away, or name another folder with -o",
            )

    def _put(self) -> None:
        old = self._next_to("old")
        with named(self.path, "write", option="-o"):
            self._remove(old)
            if self.path.exists():
                self.path.rename(old)
            self.made.rename(self.path)
            self._remove(old)

    def _next_to(self, what: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{os.getpid()}.{what}")

    @staticmethod
    def _remove(folder: Path) -> None:
        if folder.exists():
            shutil.rmtree(folder)


# Attempts of one eval that its page shows, the newest.
MOST_ATTEMPTS = 20

TAIL_LINES = 20

# Characters of an answer in a list of flips.
_SHORT = 300

Write = Callable[[str, bytes], None]

# By the id of a sample: what was expected, and what was answered.
Watched = dict[str, tuple[str, str]]


class SiteBuilder:
    """Makes the pages of a report, one eval after another, so that memory holds one at a time."""

    def __init__(
        self,
        sources: Sequence[Source],
        write: Write,
        *,
        site: Site,
        prices: Prices | None,
        test: bool,
        mask: Mask = NO_MASK,
    ) -> None:
        """Prepare the pages.

        Args:
            sources: what the report is about.
            write: puts a file where the site is made.
            site: what all pages share, without links to pages.
            prices: of tokens.
            test: whether differences are tested for significance.
            mask: takes out what must not be shown of an eval's output.
        """
        self._sources = sources
        self._write = write
        self._prices = prices
        self._test = test
        self._mask = mask
        self._grid = grid_of(sources)
        columns = self._grid.columns
        self._comparisons = {
            (one, other): Comparison(before=columns[one], after=columns[other])
            for one, other in pairs_of(self._grid)
        }
        nav = [PageLink("index.html", "Overview"), PageLink("timeline.html", "Timeline")]
        if len(self._comparisons) == 1:
            nav += [PageLink(one.path, "Comparison") for one in self._comparisons.values()]
        self._pages = Pages(msgspec.structs.replace(site, nav=nav))

    def build(self) -> Grid:
        """Write all pages.

        Returns:
            What they show.
        """
        for name, content in pages.assets().items():
            self._write(f"assets/{name}", content)
        grid, comparisons = compared(
            self._grid, self._prices, test=self._test, visit=self._write_evals
        )
        for one in comparisons:
            self._page("compare", one.path, pages.compare(one))
        overview = pages.overview(
            grid,
            self._sources,
            comparisons,
            title=self._title,
            currency=self._currency,
            tail=lambda fact: self._tail(fact, fact.row.console_log),
        )
        self._page("overview", "index.html", overview)
        spans = [span for fact in grid.facts for span in fact.spans]
        moments = [when for fact in grid.facts if fact.asked for when in fact.asked.moments]
        self._page("timeline", "timeline.html", pages.timeline(spans, moments, title=self._title))
        return grid

    @property
    def _title(self) -> str:
        sets = list(dict.fromkeys(source.eval_set for source in self._sources))
        columns = self._grid.columns
        if len(sets) > 1 and len(columns) > 1:
            return f"{len(self._sources)} runs"
        most = 3
        names = [*columns[:most], "…"] if len(columns) > most else columns
        return f"{' and '.join(names)} · {', '.join(sets[:most])}"

    @property
    def _currency(self) -> str:
        return self._prices.currency if self._prices else ""

    def _page(self, template: str, path: str, content: dict[str, Any]) -> None:
        self._write(path, self._pages.page(template, path, **content))

    def _write_evals(self, cells: Sequence[Cell | None], lines: Mapping[Pair, Line]) -> None:
        """Write the pages of one eval in every column, and the samples that flipped."""
        watched: list[Watched] = [{} for _ in cells]
        for pair, line in lines.items():
            for place in pair:
                watched[place] |= dict.fromkeys(line.flipped, ("", ""))
        for cell, samples in zip(cells, watched, strict=True):
            if cell is not None:
                self._write_eval(cell, samples)
        for (one, other), line in lines.items():
            if line.flipped:
                content = _flips(line, watched[one], watched[other])
                folder = self._comparisons[one, other].folder
                self._write(f"compare/{folder}/{line.key}.js", content)

    def _write_eval(self, cell: Cell, watched: Watched) -> None:
        fact, index = cell.fact, cell.index

        def look(row: list[Any]) -> None:
            if row[0] in watched:
                answer = row[4] if row[4] or not row[3] else row[3][0][1]
                watched[row[0]] = (beginning(row[5], _SHORT), beginning(answer, _SHORT))

        firsts = []
        for part in parts_of(index, look):
            self._write(f"evals/{fact.page}/{part.number}.js", part.content)
            firsts.append(part.first)
        if firsts:
            self._write(f"evals/{fact.page}/index.js", index_script(index, firsts))
        content = {
            "fact": fact,
            "command": shlex.join(fact.command),
            "about": pages.about(fact),
            "report": pages.figures(fact.row.final_report),
            "attempts": self._attempts(fact),
            "samples": len(index.ids),
            "notes": _notes(fact),
            "right_wrong": totals_of([fact]).right_wrong,
            "currency": self._currency,
            "asked": fact.asked,
            "stretches": stretches([], fact.asked.moments) if fact.asked else [],
        }
        self._page("eval", f"evals/{fact.page}.html", content)

    def _tail(self, fact: EvalFacts, name: str | None) -> Sequence[str]:
        lines = recorded_tail(fact.source.layout, name, TAIL_LINES) if name else ()
        return [self._mask.text(line) for line in lines]

    def _attempts(self, fact: EvalFacts) -> list[dict[str, Any]]:
        shown = []
        for record in fact.attempts[-MOST_ATTEMPTS:]:
            name = record.console_log
            state = record.result.state
            tail = self._tail(fact, name) if state is not State.DONE else ()
            files = [*record.logs[:MOST_ATTEMPTS], *([name] if name else [])]
            shown.append({"record": record, "state": state, "tail": tail, "files": files})
        return shown


def _flips(line: Line, before: Watched, after: Watched) -> bytes:
    """The samples that flipped: id, whether right now, what was expected, and both answers."""
    gained = set(line.paired.gained)
    rows = [
        (one, int(one in gained), after[one][0] or before[one][0], before[one][1], after[one][1])
        for one in line.flipped
    ]
    return call(f"flips-{line.key}", encode(rows))


def _notes(fact: EvalFacts) -> list[str]:
    """What of its logs is not on its page."""
    log = fact.log
    notes = []
    if log.missing:
        notes.append(f"{log.missing:,} of its logs are not here, or cannot be read.")
    if log.unreadable:
        notes.append(f"{log.unreadable:,} lines of its logs cannot be read.")
    if log.events_left_out:
        notes.append(
            f"{log.events_left_out:,} events are too many for a report; its logs have them."
        )
    hidden = len(fact.attempts) - MOST_ATTEMPTS
    if hidden > 0:
        notes.append(f"{hidden:,} earlier attempts are not shown.")
    return notes
