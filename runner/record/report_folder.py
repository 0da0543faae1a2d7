import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from runner.errors import UsageError
from runner.record.files import make_folder, named

# Says that a folder is a report of ours, which may be replaced.
MARK = "evalset-report.json"
# All that a report has at its top; `.nojekyll` has GitHub Pages serve every file as it is.
TOP = {MARK, ".nojekyll", "assets", "compare", "evals", "index.html", "state.json", "timeline.html"}


class ReportFolder:
    """A folder that is filled beside its place, and put there whole.

    Attributes:
        path: where it will be.
        made: where it is filled.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._check()
        self.made = self._beside("new")
        self._folders: set[Path] = set()

    def __enter__(self) -> Self:
        with named(self.made, "create the folder", option="-o"):
            self._remove(self.made)
            make_folder(self.made, option="-o")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._put()
        finally:
            self._remove(self.made)

    def write(self, name: str, content: bytes) -> None:
        """Write a file; its name is ours, for nothing from a log names a file."""
        path = self.made / name
        with named(path, "write", option="-o"):
            if path.parent not in self._folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._folders.add(path.parent)
            path.write_bytes(content)

    def _check(self) -> None:
        with named(self.path, "read", option="-o"):
            try:
                has = {entry.name for entry in self.path.iterdir()}
            except FileNotFoundError:
                return
            except NotADirectoryError:
                raise UsageError(f"{self.path} is a file; name a folder with -o") from None
        if has and MARK not in has:
            raise UsageError(
                f"{self.path} is not empty and no report of evalset's; name another folder with -o"
            )
        if foreign := sorted(has - TOP):
            raise UsageError(
                f"{self.path} holds {_shown(foreign)}, which is no part of a report and would be "
                "lost; move it away, or name another folder with -o"
            )

    def _put(self) -> None:
        old = self._beside("old")
        with named(self.path, "write", option="-o"):
            self._remove(old)
            if self.path.exists():
                self.path.rename(old)
            self.made.rename(self.path)
            self._remove(old)

    def _beside(self, what: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{os.getpid()}.{what}")

    @staticmethod
    def _remove(folder: Path) -> None:
        if folder.exists():
            shutil.rmtree(folder)


def _shown(names: Iterable[str]) -> str:
    first, *rest = names
    return f"`{first}`" + (f" and {len(rest)} more" if rest else "")
