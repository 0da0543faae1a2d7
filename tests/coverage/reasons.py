"""What the end of an eval's console log says of why it failed."""

import re
import textwrap
from collections.abc import Iterable

from runner.registry.needs import Kind

# The first pattern found decides; `{0}` stands for its first group.
_REASONS: tuple[tuple[str, Kind, str], ...] = (
    (
        r"Couldn't reach '([^'{]+)' on the Hub",
        "fetch",
        "loads the data set {0} from the Hugging Face hub",
    ),
    (r"/encodings/(\w+)\.tiktoken", "fetch", "fetches tiktoken's encoding {0}"),
    (r"Resource '?(\w+)'? not found", "fetch", "fetches NLTK's {0}"),
    (
        r"(?:FileNotFoundError|Failed to open): .*/registry/data/([^\s']+)",
        "data",
        "reads registry/data/{0}, which the release lacks",
    ),
    (
        r"AssertionError: \S*/registry/data/(\S+) does not exist",
        "data",
        "reads registry/data/{0}, which the release lacks",
    ),
    (
        r"Read-only file system: '\S*/registry/data/hr_ml_agent_bench/(\w+)/dataset'",
        "data",
        "asks for Kaggle's data for {0}, which the release lacks",
    ),
    (
        r"/benchmarks/(\w+)/scripts/prepare\.py[\s\S]*URLError",
        "download",
        "downloads the data of {0} by itself",
    ),
    (
        r"Read-only file system: '\S*/site-packages/",
        "data",
        "writes into its own package, which is read-only in a run",
    ),
    (
        r"'DummyCompletionFn' object has no attribute '(\w+)'",
        "dummy",
        "asks the model for its `{0}`, and `dummy` has none",
    ),
    (r"human_cli player is available only", "engine", "asks a person at the terminal"),
    (r"assert n_models > 1", "models", "compares several models with each other"),
    (r"NameNotFound: Environment `(\w+)`", "upstream", "plays {0}, which gymnasium no longer has"),
    (r"is only supported on `(mujoco<3)`", "package", "needs {0}"),
    (r"No module named '([\w.]+)'", "package", "imports {0}, which no image of evalset's has"),
    (r"openai\.\w*(?:Connection|Authentication)Error", "model", "asks a model of its own choice"),
)

# Of what an error says, on the page.
WIDTH = 150

# How a line begins that says what a traceback is of.
_ERROR = re.compile(r"^[\w.]*(?:Error|Exception|Env|Interrupt)\b.*", re.MULTILINE)


def explain(text: str) -> tuple[Kind, str]:
    """Why an eval failed, by what it printed or its module's import raised."""
    for pattern, kind, why in _REASONS:
        if found := re.search(pattern, text):
            return kind, why.format(*found.groups())
    errors = _ERROR.findall(text)
    last = errors[-1] if errors else _last(text.splitlines())
    return "upstream", f"fails: {textwrap.shorten(last, WIDTH)}"


def _last(lines: Iterable[str]) -> str:
    words = [line.strip() for line in lines if line.strip(" *\t")]
    return words[-1] if words else "it printed nothing"
