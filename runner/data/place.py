"""Where a container finds an eval's data, and by which variables its libraries do."""

from collections.abc import Iterable
from pathlib import Path

from runner.files import named

# In the container: the files, read-only, and the folder that Python looks in first.
CONTENT = "/evalset-data"
PYTHON = "/evalset-python"

# Below the container's `/tmp`, which libraries may write to: what they call their cache.
OWN = ".evalset-data"
_OWN = f"/tmp/{OWN}"  # noqa: S108 - inside the container

# What runs in the container before anything else does.
INSIDE = Path(__file__).with_name("inside.py")

# Below the data: the hub's cache, where `datasets` insists on writing its locks.
PREPARED = "hf/datasets"

# Where tiktoken writes what it fetches, which a network may bring in a run as well.
ENCODINGS = "tiktoken"

# What is laid out anew for each container, because libraries write there.
_WRITTEN = (f"{PREPARED}/", f"{ENCODINGS}/")

# The file in the container's `/tmp` where it notes what was in the way of fetching.
PROBLEMS = ".evalset-problems"

# No hub counts how often this is asked, and no address but the data's is.
_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "HF_HUB_DISABLE_XET": "1",
    "DO_NOT_TRACK": "1",
}


def _places(root: str) -> dict[str, str]:
    return {
        "HF_HOME": f"{_OWN}/hf",
        "HF_HUB_CACHE": f"{root}/hf/hub",
        "HF_DATASETS_CACHE": f"{_OWN}/{PREPARED}",
        "TIKTOKEN_CACHE_DIR": f"{_OWN}/{ENCODINGS}",
        "NLTK_DATA": f"{root}/nltk",
        "EVALSET_DATA_KEPT": f"{root}/kept",
    }


def fetching(pins: str) -> dict[str, str]:
    """Variables of a container that fetches; `pins` are revisions, as JSON."""
    return {
        **_QUIET,
        **_places(_OWN),
        "EVALSET_DATA_FETCH": "1",
        "EVALSET_DATA_PINS": pins,
        "EVALSET_DATA_PROBLEMS": f"/tmp/{PROBLEMS}",  # noqa: S108 - inside the container
    }


def reading() -> dict[str, str]:
    """Variables of a container that finds its data, and asks nobody for them."""
    return {
        **_QUIET,
        **_places(CONTENT),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
    }


def python_path(others: str) -> dict[str, str]:
    """The variable that lets Python find what runs first, before what was to be found there."""
    return {"PYTHONPATH": f"{PYTHON}:{others}" if others else PYTHON}


# By folder or file of the host, where a container sees it.
MOUNTS = {INSIDE: f"{PYTHON}/sitecustomize.py"}


def lay_out(paths: Iterable[str], private: Path) -> None:
    """Make the folders that `datasets` and tiktoken take for their caches, with links to the data.

    Args:
        paths: of the data's files.
        private: the host's folder that the container sees as `/tmp`.
    """
    with named(private, "write"):
        for path in paths:
            if not path.startswith(_WRITTEN):
                continue
            link = private / OWN / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"{CONTENT}/{path}")
