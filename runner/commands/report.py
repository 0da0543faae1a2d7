import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import click
import msgspec

from runner.commands.command_line import evalset_command
from runner.errors import UsageError
from runner.files import replace
from runner.gateway.prices import read_prices
from runner.host import this_host, usual
from runner.model import check_names
from runner.options import (
    FOLDER,
    PROGRESS_DIR,
    BranchOptions,
    PricesFile,
    ProgressDir,
    SnapshotOptions,
)
from runner.parameters import Argument, CommandLineOnly, Option, ValueKind
from runner.records.layout import Layout, scan
from runner.report.text import evals, one_line, part_of_set, print_warning

if TYPE_CHECKING:
    from runner.gateway.prices import Prices
    from runner.report.facts import Source
    from runner.report.site.builder import ReportFolder

BEFORE = "before"

AFTER = "after"

NO_SCIPY = (
    "warning: scipy is not installed, so that differences are not tested for significance; "
    "`pip install 'evalset[report]'` adds it"
)

# A model and an eval set.
Pair = tuple[str, str]

Format = Literal["html", "json", "csv", "md", "junit"]


class ReportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a report is about.

    Attributes:
        names: models and eval sets by turns; none is all that is there.
        ask: whether the engine is asked what runs now.
    """

    names: Annotated[tuple[str, ...], Argument(metavar="[MODEL EVAL_SET]...")] = ()
    progress_dir: ProgressDir = PROGRESS_DIR
    baseline: Annotated[
        Path | None,
        Option(
            "Compare with the same runs in this progress directory.", FOLDER, configurable=False
        ),
    ] = None
    # Those of a run's file count for its requests; here they replace what was paid.
    prices: Annotated[PricesFile, CommandLineOnly()] = None
    where: BranchOptions = BranchOptions()
    ask: bool = True

    @property
    def pairs(self) -> list[Pair]:
        """Models and eval sets.

        Raises:
            UsageError: one is missing, or leads elsewhere.
        """
        if len(self.names) % 2:
            raise UsageError(
                f"`{self.names[-1]}` has no eval set", "give MODEL EVAL_SET, once for each run"
            )
        pairs = list(dict.fromkeys(zip(self.names[::2], self.names[1::2], strict=True)))
        for model, eval_set in pairs:
            check_names(model, eval_set)
        return pairs


def write_site(options: ReportOptions, folder: Path, *, out: TextIO) -> None:
    """Write a report as a folder of pages, over one that is there."""
    from runner.report.site.builder import ReportFolder

    prices = read_prices(options.prices)
    place = ReportFolder(folder)
    with opened(options) as sources, place:
        count = build_site(sources, place, prices=prices, test=can_test(sources))
    print(one_line(f"{evals(count)}: {folder.absolute() / 'index.html'}"), file=out)


def build_site(
    sources: "Sequence[Source]",
    place: "ReportFolder",
    *,
    prices: "Prices | None",
    test: bool,
    live: bool = False,
    build: int = 0,
) -> int:
    """Make the pages of a report.

    Returns:
        How many evals it shows.
    """
    from runner.report.site.builder import MARK, SiteBuilder
    from runner.report.site.pages import Site
    from runner.secrets import Mask

    builder = SiteBuilder(
        sources,
        place.write,
        site=Site(made=time.time(), live=live, build=build),
        prices=prices,
        test=test,
        mask=Mask(usual(os.environ)),
    )
    grid = builder.build()
    place.write(".nojekyll", b"")
    place.write(MARK, msgspec.json.encode({"version": 1, "evals": len(grid.facts)}) + b"\n")
    if live:
        place.write("state.json", msgspec.json.encode({"build": build}))
    return len(grid.facts)


def write_file(options: ReportOptions, kind: Format, path: Path | None, *, out: TextIO) -> None:
    """Write a report as one file, or print it.

    Args:
        options: what it is about.
        kind: `json`, `csv`, `md` or `junit`.
        path: of the file; None prints.
        out: where to print.
    """
    prices = read_prices(options.prices)
    if path is not None and path.is_dir():
        raise UsageError(f"-o {path} is a folder", "name a file for this format")
    with opened(options) as sources:
        content = _content(sources, kind, prices)
    if path is not None:
        replace(path.absolute(), content)
    else:
        out.write(content.decode())


@contextmanager
def opened(options: ReportOptions) -> "Iterator[list[Source]]":
    """The sources of a report, while their files are there."""
    before = []
    if options.baseline is not None:
        before = sources_of(options.baseline, options.pairs, note=BEFORE)
    note = AFTER if before else ""
    where = options.where
    if where.branch is None:
        now = sources_of(options.progress_dir, options.pairs, note=note, ask=options.ask)
        sources = [*before, *now]
        _warn(sources)
        yield sources
        return
    with branch_folder(options.progress_dir, where.snapshots, where.branch) as folder:
        sources = [*before, *sources_of(folder, options.pairs, note=note)]
        _warn(sources)
        yield sources


def can_test(sources: "Sequence[Source]") -> bool:
    """Whether differences can be tested; says so where there are some and they cannot."""
    if find_spec("scipy") is not None:
        return True
    if len({source.column for source in sources}) > 1:
        print(NO_SCIPY, file=sys.stderr)
    return False


def _warn(sources: "Sequence[Source]") -> None:
    for message in (message for source in sources for message in source.state.damaged):
        print_warning(message)


def _content(sources: "Sequence[Source]", kind: Format, prices: "Prices | None") -> bytes:
    if kind == "md":
        return _markdown(sources)
    if kind == "junit":
        from runner.report.export import junit_document
        from runner.secrets import Mask

        # The runs of the baseline have the same names.
        now = [one for one in sources if one.note != BEFORE]
        return junit_document(now, Mask(usual(os.environ)))
    from runner.report.comparison import compared, grid_of
    from runner.report.export import as_csv, as_json

    test = kind == "json" and can_test(sources)
    grid, comparisons = compared(grid_of(sources), prices, test=test)
    if kind == "csv":
        return as_csv(grid)
    currency = prices.currency if prices else ""
    return as_json(grid, sources, comparisons, currency=currency)


def _markdown(sources: "Sequence[Source]") -> bytes:
    from runner.report.markdown import section

    sections = [
        section(source.column, source.eval_set, source.rows, part=source.part) for source in sources
    ]
    return "\n".join(sections).encode(errors="replace")


def sources_of(
    root: Path, pairs: Sequence[Pair], *, note: str = "", ask: bool = False
) -> "list[Source]":
    """What a progress directory has of these models and eval sets, or of all that it has.

    Args:
        root: the progress directory.
        pairs: models and eval sets; none is all.
        note: what tells these runs apart from others of the same.
        ask: whether the engine is asked what runs now.

    Raises:
        UsageError: it has nothing of one of them, or nothing at all.
    """
    root = root.resolve()
    layouts = [Layout(root=root, model=one, eval_set=other) for one, other in pairs]
    found = [_source(layout, note, ask=ask) for layout in layouts or scan(root)]
    for layout, one in zip(layouts, found, strict=False):
        if one is None:
            raise layout.no_progress()
    known = [one for one in found if one is not None]
    if not known:
        raise UsageError(
            f"{root} has no progress", "run `evalset run` first, or name --progress-dir"
        )
    return known


@contextmanager
def branch_folder(root: Path, options: SnapshotOptions, name: str) -> Iterator[Path]:
    """All that a progress branch has, as a progress directory that is there for the while.

    Args:
        root: the progress directory, where a repository of our own may be.
        options: where the branch is.
        name: of the branch.
    """
    from runner.branch.progress_branch import open_branch
    from runner.branch.restore import restore_progress
    from runner.records.folders import temporary_folder
    from runner.records.state import RunState, StateReader

    with (
        temporary_folder("report") as place,
        open_branch(options, root.resolve(), this_host(), name=name) as branch,
    ):
        for tip in branch.tips():
            reader, source = StateReader(), f"branch {name}"
            for part in RunState.from_branch(branch.states(tip), source=source, reader=reader):
                layout = Layout(root=place, model=part.model, eval_set=part.eval_set)
                restore_progress(branch, tip, layout, reader=reader, warn=lambda _: None)
        yield place


def _source(layout: Layout, note: str, *, ask: bool) -> "Source | None":
    from runner.hosts.leftovers import running_on
    from runner.records.state import RunState
    from runner.report.facts import Source

    state = RunState.from_directory(layout)
    rows = state.evals(running=running_on(layout, state) if ask else {})
    part = part_of_set(state.planned, state.in_eval_set)
    return Source(layout=layout, note=note, state=state, rows=rows, part=part) if rows else None


# What would be left out in silence.
_WITHOUT = {"prices": ("md", "junit"), "baseline": ("junit",)}


@evalset_command("evalset report gpt-4 test-basic gpt-3.5-turbo test-basic")
def command(
    *,
    about: ReportOptions,
    kind: Annotated[
        Format,
        Option("Pages, or one file for programs.", names=("--format",), configurable=False),
    ] = "html",
    output: Annotated[
        Path | None,
        Option(
            "The pages' folder, or the file.",
            ValueKind("PATH", is_path=True),
            names=("-o", "--output"),
            configurable=False,
            default="report for pages, else stdout",
        ),
    ] = None,
) -> None:
    """Write a report: pages to look at and to compare, or a file for programs.

    Without MODEL and EVAL_SET it shows all that the progress directory has. Two models of an eval
    set, or --baseline, are compared. The pages work from the disk and on any web server.
    """
    for option, formats in _WITHOUT.items():
        if getattr(about, option) is not None and kind in formats:
            raise click.UsageError(
                f"--format {kind} shows nothing of --{option}; leave one of them out"
            )
    if kind == "html":
        write_site(about, output or Path("report"), out=sys.stdout)
    else:
        write_file(about, kind, output, out=sys.stdout)
