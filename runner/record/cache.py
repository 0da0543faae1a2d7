from contextlib import suppress
from pathlib import Path

import msgspec

from runner.errors import EnvironmentFault
from runner.plan.registry import Registry
from runner.record.files import UNREADABLE, replace

# Part of the file's name: raise it when `Registry` changes its shape.
VERSION = 1


class RegistryCache:
    """The registries inside images, kept by image id, for reading one takes a container."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "registries"

    def get(self, image_id: str) -> Registry | None:
        """The registry of an image, None when it was not kept or cannot be read."""
        try:
            content = self._path(image_id).read_bytes()
            return msgspec.msgpack.decode(content, type=Registry)
        except (OSError, *UNREADABLE):
            return None

    def put(self, image_id: str, registry: Registry) -> None:
        """Keep the registry of an image; where that cannot be, it is read again next time."""
        with suppress(EnvironmentFault):
            replace(self._path(image_id), msgspec.msgpack.encode(registry))

    def newest(self) -> Registry | None:
        """The registry that was kept last, for shell completion, which must not ask the engine."""
        kept = sorted(
            self._folder.glob(f"*.{VERSION}.msgpack"), key=lambda path: path.stat().st_mtime
        )
        return self.get(kept[-1].name.partition(".")[0]) if kept else None

    def _path(self, image_id: str) -> Path:
        return self._folder / f"{image_id.removeprefix('sha256:')}.{VERSION}.msgpack"
