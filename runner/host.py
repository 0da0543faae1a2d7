import base64
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from runner.errors import UsageError
from runner.files import read_text

# Handed in where they are set, as the evals of other providers' models look for them.
USUAL_NAMES = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_ORG_ID",
    "OPENAI_ORGANIZATION",
    "OPENAI_PROJECT_ID",
    "OPENAI_API_BASE",
    "OPENAI_API_VERSION",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_ENDPOINT",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "CEREBRAS_API_KEY",
    "CO_API_KEY",
    "COHERE_API_KEY",
    "DEEPSEEK_API_KEY",
    "FIREWORKS_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GROQ_API_KEY",
    "HF_TOKEN",
    "HUGGINGFACEHUB_API_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "MISTRAL_API_KEY",
    "OPENROUTER_API_KEY",
    "PERPLEXITY_API_KEY",
    "REPLICATE_API_TOKEN",
    "TOGETHER_API_KEY",
    "XAI_API_KEY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)

USUAL_PREFIX = "EVALS_"

# The variable that says where GitHub takes Markdown for the page of a job from.
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"

# openai/evals asks for a key at import, even for its built-in model that calls nothing.
KEYLESS_MODEL = "dummy"
PLACEHOLDER_KEY = "not-needed-by-dummy"


def variables_for_containers(
    environ: Mapping[str, str], *, names: Iterable[str], env_file: Path | None, model: str
) -> dict[str, str]:
    """Variables for the containers: the usual ones, a file's, and those named, the last winning."""
    values = usual(environ)
    if model == KEYLESS_MODEL:
        values = with_placeholder(values)
    if env_file:
        values |= read_env_file(env_file, environ)
    return values | {name: from_host(environ, name) for name in names}


def with_placeholder(values: Mapping[str, str]) -> dict[str, str]:
    """Variables for a model that needs no key: `oaieval` asks for one in any case."""
    return {"OPENAI_API_KEY": PLACEHOLDER_KEY, **values}


def usual(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that containers get without being asked for."""
    return {
        name: value
        for name, value in environ.items()
        if name in USUAL_NAMES or name.startswith(USUAL_PREFIX)
    }


def is_local(address: str) -> bool:
    """Whether a URL leads to the machine that asks for it."""
    return any(f"//{name}" in address for name in ("localhost", "127.0.0.1", "[::1]"))


def from_host(environ: Mapping[str, str], name: str) -> str:
    """The host's value of a variable that someone named."""
    if "=" in name:
        raise UsageError(
            f"--env takes a name alone, not {name.partition('=')[0]}=...: a value on the command "
            "line is seen by every user of the host",
            "export it, or use --env-file",
        )
    if name not in environ:
        raise UsageError(f"the variable {name} is not set", "export it, or leave it out of --env")
    return environ[name]


def read_env_file(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Read a file as `docker run --env-file` does: NAME=value, NAME alone, or # a comment."""
    if not path.exists():
        raise UsageError(f"--env-file {path}: there is no such file", "check its path")
    text = read_text(path).removeprefix("\N{BYTE ORDER MARK}")
    values = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not name or any(character.isspace() for character in name):
            raise UsageError(f"{path}, line {number}: expected NAME=value, NAME or # a comment")
        values[name] = value if equals else from_host(environ, name)
    return values


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What a run takes from the machine, passed in so that tests can choose it.

    Attributes:
        cache: the user's cache folder for this program.
        user: `uid:gid`.
    """

    environ: Mapping[str, str]
    home: Path
    cache: Path
    name: str
    user: str


def new_id() -> str:
    """An id of the form of oaieval's run ids: the time, UTC, and eight random characters."""
    return datetime.now(UTC).strftime("%y%m%d%H%M%S") + base64.b32encode(os.urandom(5)).decode()


def this_host(environ: Mapping[str, str] = os.environ) -> Host:
    """The machine that this process runs on."""
    home = Path(environ.get("HOME") or Path.home())
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    return Host(
        environ=environ,
        home=home,
        cache=cache / "evalset",
        name=os.uname().nodename,
        user=f"{os.getuid()}:{os.getgid()}",
    )
