import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from runner.errors import UsageError
from runner.files import named, read_text
from runner.model import key_of

# Options of a requirements file that say where packages are, and which of them take a value.
_WITH_VALUE = {
    *("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--trusted-host"),
    "--only-binary",
}
_WHERE = {*_WITH_VALUE, "--no-index", "--prefer-binary", "--pre"}

_OTHER_FILE = re.compile(r"(?:(-r|-c)\s*|(--requirement|--constraint)(?:\s+|\s*=\s*))(\S.*)")

# What pip would build from source, on the host: an archive, a folder, a repository.
_ARCHIVE = re.compile(r"\.(zip|tar|tar\.\w+|tgz|tbz2?|txz|tlz)$", re.IGNORECASE)
_PLACE = re.compile(r"^(\.|/|~|file:|https?:|\w+\+)|.*\.whl$", re.IGNORECASE)
_NAME = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*(.*)")


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """The packages that requirements add to an image.

    Attributes:
        key: of the requirements and the image, as `Added.key`.
        text: a line for each, `NAME==VERSION --hash=sha256:...`, sorted; empty if the image has
            them all.
    """

    key: str
    text: str

    @property
    def digest(self) -> str:
        """Sixteen hex digits of a hash of the packages."""
        return key_of(self.text)


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What a file asks for, including the files that it names.

    Attributes:
        file: as the user named it.
        lines: of requirements, without comments and hashes.
        constraints: likewise.
        where: options that say where packages are, in pip's form.
        wheels: path or address of each wheel that is named directly, by its package's name.
        hashes: those that a package may have, in hex digits, by its name; a package that is not
            in here may have any.
        content: a hash of all of that, the same on every host.
    """

    file: str
    lines: tuple[str, ...]
    constraints: tuple[str, ...]
    where: tuple[str, ...]
    wheels: dict[str, str]
    hashes: dict[str, frozenset[str]]
    content: str


def canonical(name: str) -> str:
    """A package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_requirements(file: str) -> Requirements:
    """Read pip's requirements file, or the dependencies of a `pyproject.toml`.

    Raises:
        UsageError: it is not there, is not understood, or asks for a package that would have to be
            built from source, which would run its code on the host.
    """
    path = Path(file)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise UsageError(f"--requirements {file}: {what}", "check its path")
    reader = _Reader(file)
    if path.suffix == ".toml":
        for number, text in enumerate(_dependencies(path), start=1):
            reader.take(text, path.parent, f"{file}, dependency {number}")
    else:
        reader.read(path)
    return Requirements(
        file=file,
        lines=tuple(reader.lines),
        constraints=tuple(reader.constraints),
        where=tuple(reader.where),
        wheels=reader.wheels,
        hashes={name: frozenset(known) for name, known in reader.hashes.items()},
        content=key_of(reader.seen),
    )


def _dependencies(path: Path) -> list[str]:
    import tomllib  # noqa: PLC0415 - most runs read none

    try:
        project = tomllib.loads(read_text(path)).get("project")
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: this is not valid TOML: {error}") from None
    listed = project.get("dependencies") if isinstance(project, dict) else None
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise UsageError(
            f"{path}: `[project]` has no list of `dependencies`",
            "add one, or name a requirements file",
        )
    return listed


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines without comments; one that ends with a backslash is joined to the next."""
    whole, first = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        first = first if whole else number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            whole += line[:-1] + " "
            continue
        yield first, re.sub(r"(^|\s)#.*$", "", whole + line).strip()
        whole = ""
    yield first, whole.strip()


class _Reader:
    """Reads requirements, file by file."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._read: set[Path] = set()
        self.lines: list[str] = []
        self.constraints: list[str] = []
        self.where: list[str] = []
        self.wheels: dict[str, str] = {}
        self.hashes: dict[str, set[str]] = {}
        self.seen: list[str] = []

    def read(self, path: Path, *, constraints: bool = False) -> None:
        if path.resolve() in self._read:
            return
        self._read.add(path.resolve())
        for number, line in _logical_lines(read_text(path).removeprefix("\N{BYTE ORDER MARK}")):
            place = f"{path}, line {number}"
            if found := _OTHER_FILE.fullmatch(line):
                self._other(path.parent, found, place, constraints=constraints)
            elif line:
                self.take(line, path.parent, place, constraints=constraints)

    def _other(
        self, folder: Path, found: "re.Match[str]", place: str, *, constraints: bool
    ) -> None:
        other = folder / found[3].strip().strip("\"'")
        if not other.is_file():
            raise UsageError(
                f"{place}: there is no file {other}", "check its path, which starts at the file's"
            )
        is_constraint = found[1] == "-c" or found[2] == "--constraint"
        self.read(other, constraints=constraints or is_constraint)

    def take(self, line: str, folder: Path, place: str, *, constraints: bool = False) -> None:
        self.seen.append(f"-c {line}" if constraints else line)
        if line.startswith("-"):
            self._option(line, folder, place)
            return
        line, *options = re.split(r"\s+(?=--)", line)
        hashes = [found[1] for each in options if (found := _HASH.fullmatch(each))]
        if len(hashes) != len(options):
            raise UsageError(
                f"{place}: evalset supports no option there except --hash", "leave it out"
            )
        name, line = self._requirement(line, folder, place)
        if hashes:
            self.hashes.setdefault(name, set()).update(hashes)
        (self.constraints if constraints else self.lines).append(line)

    def _option(self, line: str, folder: Path, place: str) -> None:
        name, value = [*re.split(r"\s+|\s*=\s*", line, maxsplit=1), ""][:2]
        if name not in _WHERE or (name in _WITH_VALUE) != bool(value):
            built = "-e" if name in {"-e", "--editable"} else ""
            raise UsageError(
                f"{place}: `{built or name}` cannot be used with --requirements",
                "name the package's folder with --code instead" if built else "leave it out",
            )
        if name in {"-f", "--find-links"} and (folder / value).exists():
            value = str((folder / value).resolve())
        self.where.append(f"{name} {value}".strip())

    def _requirement(self, line: str, folder: Path, place: str) -> tuple[str, str]:
        """The package's name, and the line in a form that does not depend on the current folder."""
        found = _NAME.fullmatch(line)
        if found and found[2].startswith("@"):
            address = found[2][1:].partition(";")[0].strip()
            return self._wheel(address, folder, place)[0], line
        bare = line.partition(";")[0].strip()
        if _PLACE.match(bare) or _ARCHIVE.search(bare):
            name, address = self._wheel(bare, folder, place)
            return name, line.replace(bare, address)
        return canonical(found[1]) if found else line, line

    def _wheel(self, address: str, folder: Path, place: str) -> tuple[str, str]:
        plain = address.partition("#")[0]
        path = folder / plain.removeprefix("file://")
        if not plain.endswith(".whl") or plain.startswith("git+"):
            raise UsageError(
                f"{place}: `{address}` is not a wheel, and building one would run its code here",
                "name its folder with --code, or build a wheel (`pip wheel`) and name that",
            )
        name = canonical(Path(plain).name.split("-")[0])
        if "://" not in plain or plain.startswith("file:"):
            with named(path, "read", option="--requirements"):
                self.seen.append(hashlib.sha256(path.read_bytes()).hexdigest())
            address = str(path.resolve())
        self.wheels[name] = address
        return name, address


_HASH = re.compile(r"--hash[=\s]\s*sha256:([0-9a-f]{64})")
