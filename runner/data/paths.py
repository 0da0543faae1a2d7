"""Where a container finds an eval's data, and the variables that tell its libraries."""

from collections.abc import Iterable
from pathlib import Path

from runner.files import named

# In the container: the files, read-only, and the folder that Python looks in first.
CONTENT = "/evalset-data"
PYTHON = "/evalset-python"

# Below the container's `/tmp`, where libraries may write: what they take for their cache.
OWN = ".evalset-data"
_OWN = f"/tmp/{OWN}"  # noqa: S108 - inside the container

# Runs in the container before anything else.
INSIDE = Path(__file__).with_name("inside.py")

# Below the data: the hub's cache, where `datasets` insists on writing its locks.
PREPARED = "hf/datasets"

# Where tiktoken writes what it fetches; in a run with a network it may do so as well.
ENCODINGS = "tiktoken"

# Made again for each container, because libraries write there.
_WRITTEN = (f"{PREPARED}/", f"{ENCODINGS}/")

# The file in the container's `/tmp` that says why something could not be fetched.
PROBLEMS = ".evalset-problems"

# Libraries send no usage statistics, and ask no address but those of the data.
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
    """Variables of a container whose libraries take their data from here, and ask no hub."""
    return {
        **_QUIET,
        **_places(CONTENT),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
    }


def python_path(others: str) -> dict[str, str]:
    """PYTHONPATH with our `sitecustomize` before what it has already."""
    return {"PYTHONPATH": f"{PYTHON}:{others}" if others else PYTHON}


# Host folders and files, with the path where a container sees them.
MOUNTS = {INSIDE: f"{PYTHON}/sitecustomize.py"}


def lay_out(paths: Iterable[str], private: Path) -> None:
    """Make the folders that `datasets` and tiktoken use as caches, with links to the data.

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
