import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

from runner.files import UNREADABLE, read_bytes, replace
from runner.model import Command
from runner.records.lines import LineFile, read_lines

_decoder = msgspec.json.Decoder(tuple[str, ...])


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What a progress file says.

    Attributes:
        commands: in file order, doubled ones once.
        lines: finished commands of old files: plain text, joined by single spaces.
        damaged: one message for people for each line that could not be read.
    """

    commands: tuple[Command, ...] = ()
    lines: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


def read_progress(path: Path) -> Finished:
    """Read a progress file; one that does not exist says that nothing is finished.

    A torn last line is skipped silently, because a crash leaves one; any other line that is neither
    a JSON array of strings nor plain text is named by its number. The file stays as it is.
    """
    return parse_progress(read_bytes(path), str(path))


def parse_progress(content: bytes, source: str) -> Finished:
    """Read what a progress file holds; `source` is what messages call it."""
    commands: dict[Command, None] = {}
    lines: dict[str, None] = {}

    def take(_: int, text: bytes) -> bool:
        try:
            commands[Command(_decoder.decode(text))] = None
        except UNREADABLE:
            plain = _plain(text)
            if plain is None:
                return False
            lines[plain] = None
        return True

    damaged = [
        f"{source}: line {number} cannot be read and is left as it is; "
        "the eval that it stood for runs again, unless its success is in the attempts file"
        for number in read_lines(content, take)
    ]
    return Finished(commands=tuple(commands), lines=tuple(lines), damaged=tuple(damaged))


def _plain(text: bytes) -> str | None:
    """The line as an old progress file would have it, or None for what was meant to be JSON."""
    if text.startswith((b"[", b"{", b'"')) or b'", "' in text or text.endswith(b'"]'):
        return None  # the rest of a line of JSON, for example
    try:
        line = text.decode()
    except UnicodeDecodeError:
        return None
    return line if line.isprintable() else None


class ProgressFile(LineFile):
    """Upstream's progress file, byte for byte: one JSON argv a line, successes only."""

    def add_commands(self, *commands: Command) -> None:
        """Record finished commands, durable when this returns."""
        self.add(*(json.dumps(command) for command in commands))


def rewrite_progress(path: Path, commands: Sequence[Command]) -> None:
    """Write a whole progress file anew; a reader sees the old one or the new one."""
    replace(path, "".join(f"{json.dumps(command)}\n" for command in commands).encode())
