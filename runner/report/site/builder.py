import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from runner.errors import UsageError
from runner.files import make_folder, named
from runner.model import State
from runner.records.logs import recorded_tail
from runner.report.comparison import (
    Cell,
    Comparison,
    Line,
    cell_of,
    comparison,
    line_of,
    pairs_of,
    with_cells,
)
from runner.report.facts import EvalFacts, Prices, Source, totals_of
from runner.report.grid import Grid, GridRow, grid_of
from runner.report.site.overview import about, figures, overview, timeline_page
from runner.report.site.pages import Link, Pages, Site, assets
from runner.report.site.samples import call, encode, index_script, parts_of, shown
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
        self.made = self._beside("new")
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
                raise UsageError(f"{self.path} is a file; name a folder with -o") from None
        if has and MARK not in has:
            raise UsageError(
                f"{self.path} is not empty and no report of evalset's; name another folder with -o"
            )
        if foreign := sorted(has - TOP):
            raise UsageError(
                f"{self.path} holds {_shown(foreign)}, which is no part of a report and would be "
                "lost; move it away, or name another folder with -o"
            )

    def _put(self) -> None:
        old = self._beside("old")
        with named(self.path, "write", option="-o"):
            self._remove(old)
            if self.path.exists():
                self.path.rename(old)
            self.made.rename(self.path)
            self._remove(old)

    def _beside(self, what: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{os.getpid()}.{what}")

    @staticmethod
    def _remove(folder: Path) -> None:
        if folder.exists():
            shutil.rmtree(folder)


def _shown(names: Iterable[str]) -> str:
    first, *rest = names
    return f"`{first}`" + (f" and {len(rest)} more" if rest else "")


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
        prices: Prices | None,
        test: bool,
        now: float,
        mask: Mask = NO_MASK,
        live: bool = False,
        build: int = 0,
    ) -> None:
        """Prepare the pages.

        Args:
            sources: what the report is about.
            write: puts a file where the site is made.
            prices: of tokens.
            test: whether differences are tested for significance.
            now: seconds since 1970.
            mask: takes out what must not be shown of an eval's output.
            live: whether pages look for newer ones.
            build: counts the reports of one `evalset view`.
        """
        self._sources = sources
        self._write = write
        self._prices = prices
        self._test = test
        self._mask = mask
        self._grid = grid_of(sources)
        self._lines: dict[tuple[int, int], list[Line]] = {pair: [] for pair in pairs_of(self._grid)}
        self._pages = Pages(
            Site(nav=self._nav(), made=now, live=live, build=build),
        )

    def build(self) -> Grid:
        """Write all pages.

        Returns:
            What they show.
        """
        for name, content in assets().items():
            self._write(f"assets/{name}", content)
        grid = with_cells(self._grid, (self._row(row) for row in self._grid.rows))
        compared = [self._compare(*pair) for pair in self._lines if self._lines[pair]]
        shown = overview(
            grid,
            self._sources,
            compared,
            title=self._title,
            currency=self._currency,
            tail=lambda fact: self._tail(fact, fact.row.console_log),
        )
        self._page("overview", "index.html", shown)
        spans = [span for fact in grid.facts for span in fact.spans]
        self._page("timeline", "timeline.html", {"title": self._title, **timeline_page(spans)})
        return grid

    @property
    def _title(self) -> str:
        sets = list(dict.fromkeys(source.eval_set for source in self._sources))
        if len(sets) > 1 and len(self._grid.columns) > 1:
            return f"{len(self._sources)} runs"
        most = 3
        names = [*self._grid.columns[:most], "…"] if len(self._grid.columns) > most else None
        return f"{' and '.join(names or self._grid.columns)} · {', '.join(sets[:most])}"

    @property
    def _currency(self) -> str:
        return self._prices.currency if self._prices else ""

    def _nav(self) -> list[Link]:
        links = [Link("index.html", "Overview"), Link("timeline.html", "Timeline")]
        if len(self._lines) == 1:
            (pair,) = self._lines
            links.append(Link(self._comparison(pair, []).path, "Comparison"))
        return links

    def _comparison(self, pair: tuple[int, int], lines: Sequence[Line]) -> Comparison:
        before, after = (self._grid.columns[place] for place in pair)
        return comparison(before, after, lines)

    def _page(self, template: str, path: str, content: dict[str, Any]) -> None:
        self._write(path, self._pages.page(template, path, **content))

    def _row(self, row: GridRow) -> list[EvalFacts | None]:
        """Make the pages of one eval in every column, and what the comparisons say of it."""
        cells = [None if fact is None else cell_of(fact, self._prices) for fact in row.cells]
        watched: list[Watched] = [{} for _ in cells]
        lines = []
        for pair in self._lines:
            before, after = (cells[place] for place in pair)
            if before is None or after is None:
                continue
            line = line_of(row, before, after, test=self._test)
            lines.append((pair, line))
            for place in pair:
                watched[place] |= dict.fromkeys(line.flipped, ("", ""))
        for cell, samples in zip(cells, watched, strict=True):
            if cell is not None:
                self._eval(cell, samples)
        for (one, other), line in lines:
            self._lines[one, other].append(line)
            if line.flips:
                self._flips((one, other), line, watched[one], watched[other])
        return [None if cell is None else cell.fact for cell in cells]

    def _flips(self, pair: tuple[int, int], line: Line, before: Watched, after: Watched) -> None:
        gained = set(line.paired.gained)
        rows = [
            (
                one,
                int(one in gained),
                after[one][0] or before[one][0],
                before[one][1],
                after[one][1],
            )
            for one in line.flipped
        ]
        folder = self._comparison(pair, []).folder
        self._write(f"compare/{folder}/{line.key}.js", call(f"flips-{line.key}", encode(rows)))

    def _eval(self, cell: Cell, watched: Watched) -> None:
        fact, index = cell.fact, cell.index

        def look(row: list[Any]) -> None:
            if row[0] in watched:
                answer = row[4] if row[4] or not row[3] else row[3][0][1]
                watched[row[0]] = (shown(row[5], _SHORT), shown(answer, _SHORT))

        firsts = []
        for part in parts_of(index, look):
            self._write(f"evals/{fact.page}/{part.number}.js", part.content)
            firsts.append(part.first)
        if firsts:
            self._write(f"evals/{fact.page}/index.js", index_script(index, firsts))
        content = {
            "fact": fact,
            "command": shlex.join(fact.command),
            "about": about(fact),
            "report": figures(fact.row.final_report),
            "attempts": self._attempts(fact),
            "samples": len(index.ids),
            "notes": _notes(fact),
            "right_wrong": totals_of([fact]).right_wrong,
            "currency": self._currency,
        }
        self._page("eval", f"evals/{fact.page}.html", content)

    def _tail(self, fact: EvalFacts, name: str | None) -> Sequence[str]:
        lines = recorded_tail(fact.source.layout, name, TAIL_LINES) if name else ()
        return [self._mask.text(line) for line in lines]

    def _attempts(self, fact: EvalFacts) -> list[dict[str, Any]]:
        shown = []
        for record in fact.tried[-MOST_ATTEMPTS:]:
            name = record.console_log
            state = record.result.state
            tail = self._tail(fact, name) if state is not State.DONE else ()
            named = [*record.logs[:MOST_ATTEMPTS], *([name] if name else [])]
            shown.append({"record": record, "state": state, "tail": tail, "files": named})
        return shown

    def _compare(self, one: int, other: int) -> Comparison:
        found = self._comparison((one, other), self._lines[one, other])
        several = len({line.eval_set for line in found.lines}) > 1
        content = {"found": found, "several_sets": several}
        self._page("compare", found.path, content)
        return found


def _notes(fact: EvalFacts) -> list[str]:
    """What of its logs is not on its page."""
    log = fact.log
    notes = []
    if log.missing:
        notes.append(f"{log.missing:,} of its logs are not here, or cannot be read.")
    if log.unreadable:
        notes.append(f"{log.unreadable:,} lines of its logs cannot be read.")
    if log.left_out:
        notes.append(f"{log.left_out:,} events are too many for a report; its logs have them.")
    hidden = len(fact.tried) - MOST_ATTEMPTS
    if hidden > 0:
        notes.append(f"{hidden:,} earlier attempts are not shown.")
    return notes
