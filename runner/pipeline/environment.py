from collections.abc import Iterable, Mapping
from pathlib import Path

from runner.errors import UsageError
from runner.record.files import named

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

# openai/evals asks for a key at import, even for its built-in model that calls nothing.
KEYLESS_MODEL = "dummy"
PLACEHOLDER_KEY = "not-needed-by-dummy"


def handed_in(
    environ: Mapping[str, str], *, names: Iterable[str], env_file: Path | None, model: str
) -> dict[str, str]:
    """Variables for the containers: the usual ones, a file's, and those named, the last winning."""
    values = usual(environ)
    if model == KEYLESS_MODEL:
        values.setdefault("OPENAI_API_KEY", PLACEHOLDER_KEY)
    if env_file:
        values |= read_env_file(env_file, environ)
    return values | {name: from_host(environ, name) for name in names}


def usual(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that containers get without being asked for."""
    return {
        name: value
        for name, value in environ.items()
        if name in USUAL_NAMES or name.startswith(USUAL_PREFIX)
    }


def from_host(environ: Mapping[str, str], name: str) -> str:
    """The host's value of a variable that someone named."""
    if "=" in name:
        raise UsageError(
            f"--env takes a name alone, not {name.partition('=')[0]}=...: a value on the command "
            "line is seen by every user of the host; export it, or use --env-file"
        )
    if name not in environ:
        raise UsageError(f"the variable {name} is not set; export it, or leave it out of --env")
    return environ[name]


def read_env_file(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Read a file as `docker run --env-file` does: NAME=value, NAME alone, or # a comment."""
    if not path.exists():
        raise UsageError(f"--env-file {path}: there is no such file; check its path")
    with named(path, "read"):
        content = path.read_bytes()
    values = {}
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            line = raw.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise UsageError(
                f"{path}, line {number}: this is not UTF-8; save it as UTF-8"
            ) from None
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not name or any(character.isspace() for character in name):
            raise UsageError(f"{path}, line {number}: expected NAME=value, NAME or # a comment")
        values[name] = value if equals else from_host(environ, name)
    return values
