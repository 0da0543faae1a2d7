import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import msgspec

from runner.errors import UsageError
from runner.pipeline.environment import usual
from runner.pipeline.options import SnapshotOptions
from runner.pipeline.report_cells import compared
from runner.pipeline.report_sources import Pair, branch_folder, sources_of
from runner.pipeline.reports import State, junit_document
from runner.pipeline.status import of_set
from runner.plan.mask import Mask
from runner.plan.prices import Prices, parse_prices
from runner.record import files
from runner.record.report_folder import MARK, ReportFolder
from runner.report import paired
from runner.report.actions import inert
from runner.report.facts import Source
from runner.report.grid import grid_of
from runner.report.text import one_line

BEFORE = "before"
AFTER = "after"
NO_SCIPY = (
    "warning: scipy is not installed, so that differences are not tested for significance; "
    "`pip install 'evalset[report]'` adds it"
)


class ReportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a report is about.

    Attributes:
        progress_dir: where the runs' files are.
        pairs: models and eval sets; none is all that is there.
        baseline: the progress directory of earlier runs of the same.
        prices: a file with prices of tokens.
        branch: a progress branch, read instead of the directory.
        snapshot: where that is.
        ask: whether the engine is asked what runs now.
    """

    progress_dir: Path
    pairs: Sequence[Pair] = ()
    baseline: Path | None = None
    prices: Path | None = None
    branch: str | None = None
    snapshot: SnapshotOptions | None = None
    ask: bool = True


def write_site(options: ReportOptions, folder: Path, *, out: TextIO) -> None:
    """Write a report as a folder of pages, over one that is there."""
    prices = read_prices(options.prices)
    place = ReportFolder(folder)
    with opened(options) as sources, place:
        count = build_site(sources, place, prices=prices, test=can_test(sources))
    noun = "eval" if count == 1 else "evals"
    print(one_line(f"{count} {noun}: {folder.absolute() / 'index.html'}"), file=out)


def build_site(
    sources: Sequence[Source],
    place: ReportFolder,
    *,
    prices: Prices | None,
    test: bool,
    live: bool = False,
    build: int = 0,
) -> int:
    """Make the pages of a report.

    Returns:
        How many evals it shows.
    """
    from runner.pipeline.report_site import SiteBuilder  # noqa: PLC0415 - jinja2 takes its time

    builder = SiteBuilder(
        sources,
        place.write,
        prices=prices,
        test=test,
        now=time.time(),
        mask=Mask(usual(os.environ)),
        live=live,
        build=build,
    )
    grid = builder.build()
    place.write(".nojekyll", b"")
    place.write(MARK, msgspec.json.encode({"version": 1, "evals": len(grid.facts)}) + b"\n")
    if live:
        place.write("state.json", msgspec.json.encode({"build": build}))
    return len(grid.facts)


def write_file(options: ReportOptions, kind: str, path: Path | None, *, out: TextIO) -> None:
    """Write a report as one file, or print it.

    Args:
        options: what it is about.
        kind: `json`, `csv`, `md` or `junit`.
        path: of the file; None prints.
        out: where to print.
    """
    prices = read_prices(options.prices)
    if path is not None and path.is_dir():
        raise UsageError(f"-o {path} is a folder; name a file for this format")
    with opened(options) as sources:
        content = _content(sources, kind, prices)
    if path is not None:
        files.replace(path.absolute(), content)
    else:
        out.write(content.decode())


@contextmanager
def opened(options: ReportOptions) -> Iterator[list[Source]]:
    """The sources of a report, for as long as their files are there."""
    before = []
    if options.baseline is not None:
        before = sources_of(options.baseline, options.pairs, note=BEFORE)
    note = AFTER if before else ""
    if options.branch is None:
        now = sources_of(options.progress_dir, options.pairs, note=note, ask=options.ask)
        sources = [*before, *now]
        _warn(sources)
        yield sources
        return
    snapshot = options.snapshot or SnapshotOptions(branch=options.branch)
    with branch_folder(options.progress_dir, snapshot, options.branch) as folder:
        sources = [*before, *sources_of(folder, options.pairs, note=note)]
        _warn(sources)
        yield sources


def read_prices(path: Path | None) -> Prices | None:
    """Read a file of prices, where one is named.

    Raises:
        UsageError: it is none.
    """
    if path is None:
        return None
    with files.named(path, "read"):
        try:
            text = path.read_bytes().decode()
        except FileNotFoundError:
            raise UsageError(f"--prices {path}: there is no such file; check its path") from None
        except UnicodeDecodeError:
            raise UsageError(f"--prices {path}: it is no text; write it as UTF-8") from None
    return parse_prices(str(path), text)


def can_test(sources: Sequence[Source]) -> bool:
    """Whether differences can be tested; says so where there are some and they cannot."""
    if paired.available():
        return True
    if len({source.column for source in sources}) > 1:
        print(NO_SCIPY, file=sys.stderr)
    return False


def _warn(sources: Sequence[Source]) -> None:
    for message in (message for source in sources for message in source.damaged):
        print(inert(one_line(f"warning: {message}")), file=sys.stderr)


def _content(sources: Sequence[Source], kind: str, prices: Prices | None) -> bytes:
    if kind == "md":
        return _markdown(sources)
    if kind == "junit":
        # The runs of the baseline have the same names.
        states = [State(layout=one.layout, rows=one.rows) for one in sources if one.note != BEFORE]
        return junit_document(states, Mask(usual(os.environ)))
    from runner.report.export import as_csv, as_json  # noqa: PLC0415 - only when asked for

    test = kind == "json" and can_test(sources)
    grid, comparisons = compared(grid_of(sources), prices, test=test)
    if kind == "csv":
        return as_csv(grid)
    currency = prices.currency if prices else ""
    return as_json(grid, sources, comparisons, currency=currency)


def _markdown(sources: Sequence[Source]) -> bytes:
    from runner.report.markdown import section  # noqa: PLC0415 - only when asked for

    sections = [
        section(source.column, source.eval_set, source.rows, part=of_set(source.run))
        for source in sources
    ]
    return "\n".join(sections).encode(errors="replace")
