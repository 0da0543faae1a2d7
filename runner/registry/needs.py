"""What each eval of upstream's registry needs in addition to the eval image, as measured.

`make coverage` writes `needs.json`: it imports each eval's class in our images, and runs each eval
once, with the model `dummy` and no network. The file is about the release of openai/evals that the
eval image has.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

# What keeps an eval from running. The first six can be cured: `fetch` by a network or a cache of
# data, `download` by a network alone, `model` by OpenAI's key, `dummy` by any other model, `models`
# by several of them, `time` by a longer time limit and perhaps a GPU. For the others there is no
# cure in our images.
Kind = Literal[
    "fetch",
    "download",
    "model",
    "dummy",
    "models",
    "time",
    "package",
    "engine",
    "data",
    "upstream",
]


class MeasuredObstacle(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why some evals of a class do not run offline with `dummy`.

    Attributes:
        why: the end of a line that begins with "it": `loads cais/mmlu from the Hugging Face hub`.
        evals: resolved keys.
        seen: whether they ran all the same with a stub in the place of what they lack: for
            `model`, of the provider.
    """

    kind: Kind
    why: str
    evals: tuple[str, ...]
    seen: bool = False


class ClassNeeds(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the evals of one class need.

    Attributes:
        name: the class, as registries give it: `module:Class`.
        image: one of `EXTRAS`, in which its module can be imported; empty for the eval image.
        fails: the last line of the traceback, if it cannot be imported in any image of ours.
        runs: resolved keys of the evals that run.
        obstacles: of the other evals.
    """

    name: str
    image: str = ""
    fails: str = ""
    runs: tuple[str, ...] = ()
    obstacles: tuple[MeasuredObstacle, ...] = ()

    @property
    def evals(self) -> tuple[str, ...]:
        """All its evals."""
        return (*self.runs, *(name for each in self.obstacles for name in each.evals))


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What one eval needs.

    Attributes:
        image: one of `EXTRAS`; empty for the eval image.
        kind, why: what keeps it from running offline with `dummy`; None and empty if nothing does.
    """

    image: str
    kind: Kind | None = None
    why: str = ""

    @property
    def fetches(self) -> bool:
        """Whether it loads data from elsewhere when it runs."""
        return self.kind == "fetch"

    def lacks_package(self, image: str | None) -> bool:
        """Whether its class cannot be imported in an image of ours, as `Need.image` has it."""
        return self.image not in {"", image} or self.kind == "package"


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file.

    Attributes:
        evals_version: of openai/evals, as locked for the eval image.
        recipes: hash of what each image was made from when all evals were measured, by its extra;
            empty for the eval image.
    """

    evals_version: str
    recipes: dict[str, str] = {}
    classes: tuple[ClassNeeds, ...]

    def by_eval(self) -> dict[str, Need]:
        """What each eval needs, by its resolved key."""
        found: dict[str, Need] = {}
        for each in self.classes:
            found |= {name: Need(image=each.image) for name in each.runs}
            for obstacle in each.obstacles:
                need = Need(image=each.image, kind=obstacle.kind, why=obstacle.why)
                found |= dict.fromkeys(obstacle.evals, need)
        return found


def read_needs() -> Needs:
    """What `make coverage` has measured of each class, from `needs.json`."""
    content = Path(__file__).with_name("needs.json").read_bytes()
    return msgspec.json.decode(content, type=Needs)


@cache
def needs() -> Mapping[str, Need]:
    """What each eval of upstream's registry needs, by resolved key; others are not in it."""
    return read_needs().by_eval()


def by_image(evals: Iterable[str]) -> dict[str, list[str]]:
    """The evals that need another image than the eval image, by that image's extra, in order."""
    found: dict[str, list[str]] = {}
    for name in evals:
        need = needs().get(name)
        if need is not None and need.image:
            found.setdefault(need.image, []).append(name)
    return found
