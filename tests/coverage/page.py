"""Writes docs/coverage.md from `needs.json`."""

from collections.abc import Iterator
from pathlib import Path

from runner.registry.needs import ClassNeeds, Kind, Needs

PAGE = Path(__file__).parents[2] / "docs/coverage.md"

HEAD = """\
# Coverage

Which evals of upstream's registry run, and why the others do not. `make coverage` writes this page.
It runs every eval of openai/evals {version} once, with the model `dummy`, one sample, and no
network.

**{runs} of {total} evals run so.** {seen} more ask a model of their own choice, and run with a stub
in the place of its provider. With a network, another model, or what else the table says, more do.
"""

FAMILIES = """\
A family is what shares a class. The image `default` is built by `evalset image build`, and `ml` by
`evalset image build --extra ml`; [a run takes the right one](install.md#the-eval-image) by itself.
"""

CURES: dict[Kind, tuple[str, str]] = {
    "fetch": ("need data that they fetch when they run", "a network, or the data fetched before"),
    "download": ("download data in a way of their own", "a network"),
    "model": (
        "ask a model of their own choice",
        "`OPENAI_API_KEY`: seen with a stub in the place of the provider",
    ),
    "dummy": ("run with every model but `dummy`", "another model"),
    "models": ("compare models with each other", "several models, as in `gpt-4,gpt-4o`"),
    "time": ("train a model first, for hours", "a GPU, and time"),
    "package": (
        "import a package that no image of evalset's has",
        "`--requirements`, or an image of your own",
    ),
    "engine": (
        "need what no container of a run has: an engine of their own, or a person",
        "upstream's own `oaieval`, outside a container",
    ),
    "data": (
        "need files that the release lacks, or write into it",
        "an image of your own with these files",
    ),
    "upstream": ("fail for another reason", "a fix by upstream"),
}

FETCHES = {"fetch", "download"}


def page(needs: Needs) -> str:
    """The page as it is to be."""
    runs = sum(len(each.runs) for each in needs.classes)
    total = sum(len(each.evals) for each in needs.classes)
    seen = sum(len(it.evals) for each in needs.classes for it in each.obstacles if it.seen)
    parts = [
        HEAD.format(version=needs.evals_version, runs=runs, seen=seen, total=total),
        *_totals(needs),
        "\n## By family\n",
        FAMILIES,
        "| family | image | data | run | why the others do not |\n|---|---|---|---|---|",
        *(_row(each) for each in sorted(needs.classes, key=lambda it: it.name)),
    ]
    return "\n".join(parts) + "\n"


def _totals(needs: Needs) -> Iterator[str]:
    yield "| evals that do not run so | how many | what helps |\n|---|---|---|"
    for kind, (what, cure) in CURES.items():
        obstacles = [it for each in needs.classes for it in each.obstacles if it.kind == kind]
        if number := sum(len(it.evals) for it in obstacles):
            yield f"| {what} | {number} | {cure} |"


def _row(each: ClassNeeds) -> str:
    why = "; ".join(
        f"{it.why} ({len(it.evals)})".replace("|", "\\|")
        for it in sorted(each.obstacles, key=lambda it: -len(it.evals))
    )
    runs = f"{len(each.runs)} of {len(each.evals)}"
    return f"| `{each.name}` | {_image(each)} | {_data(each)} | {runs} | {why} |"


def _image(each: ClassNeeds) -> str:
    if any(it.kind in {"package", "engine"} for it in each.obstacles) and not each.runs:
        return "none"
    return each.image or "default"


def _data(each: ClassNeeds) -> str:
    fetched = sum(len(it.evals) for it in each.obstacles if it.kind in FETCHES)
    lacking = sum(len(it.evals) for it in each.obstacles if it.kind == "data")
    if lacking:
        return f"lacking for {lacking}"
    if not fetched:
        return "in the image"
    return "fetched" if fetched == len(each.evals) else f"fetched for {fetched}"
