import codecs
import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TextIO

import msgspec

# All that a terminal may take for a command: control characters of both ranges, and the marks
# that change the direction of text.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

# Colours are simply taken out: most logs have them.
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


def harmless(text: str) -> str:
    """Text from a container with nothing in it that a terminal would obey."""
    text = _COLOUR.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """Harmless text without line breaks: a line that an eval made could be a command to Actions."""
    return " ".join(harmless(text).split("\n"))


def duration(seconds: float) -> str:
    """Seconds for people: `4.2 s`, `3 min 05 s`, `2 h 07 min`."""
    if round(seconds, 1) < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def size(count: int) -> str:
    """A number of bytes for people: `980 KiB`, `1.5 GiB`."""
    amount = count / 2**10
    for unit in ("KiB", "MiB", "GiB"):
        if amount < 1024:  # noqa: PLR2004 - the next unit's
            return f"{amount:.3g} {unit}"
        amount /= 2**10
    return f"{amount:.3g} TiB"


def evals(count: int) -> str:
    """A number of evals in words."""
    return f"{count} eval" if count == 1 else f"{count} evals"


def part_of_set(planned: int | None, in_eval_set: int | None) -> str:
    """What a plan skips of its eval set; empty where that is nothing, or not known."""
    if planned is None or in_eval_set is None or planned >= in_eval_set:
        return ""
    return f"the last plan has {planned} of the eval set's {evals(in_eval_set)}"


# GitHub's runner obeys `::name::` where a line begins with it, and the older `##[name]` anywhere.
# It compares as .NET does, which ignores characters that cannot be seen.
# https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
_COMMAND = re.compile(r"[^!-~]*:[^!-~]*:")

OLDER_COMMAND = re.compile(r"(#[^!-~]*#[^!-~]*)\[")


def on_actions() -> bool:
    """Whether this is a step of a GitHub Actions job, where lines of output can be commands."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def takes_pictures(out: TextIO) -> bool:
    """Whether a picture may be drawn again in place: on a terminal that can, and not in CI."""
    in_ci = os.environ.get("CI") or on_actions()
    return out.isatty() and not in_ci and os.environ.get("TERM") != "dumb"


def inert(line: str) -> str:
    """A line in which GitHub's runner finds no command; elsewhere the line as it is."""
    if not on_actions():
        return line
    if _COMMAND.match(line):
        line = f"| {line}"
    return OLDER_COMMAND.sub(r"\1(", line)


def plain_line(text: str) -> str:
    """Text as one line that neither a terminal nor GitHub's runner obeys."""
    return inert(one_line(text))


def print_warning(text: str) -> None:
    """Print a line on stderr that says what to look at."""
    print(plain_line(f"warning: {text}"), file=sys.stderr)


def command(name: str, text: str) -> str:
    """The line by which GitHub's runner takes one line of text as an error, a group's title ..."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{name}::{escaped}"


@contextlib.contextmanager
def group(out: TextIO, title: str) -> Iterator[None]:
    """Let what is printed inside be folded away on Actions; elsewhere it is printed as usual."""
    if on_actions():
        print(command("group", title), file=out, flush=True)
    yield
    if on_actions():
        print(command("endgroup", ""), file=out, flush=True)


# Characters of one line that are kept until its end comes.
_LONGEST = 2**16

# Characters of a colour, and of what must not be taken for one.
_LONGEST_COLOUR = 16


def harmless_parts(parts: Iterable[bytes]) -> Iterator[str]:
    """What an eval prints, piece by piece, with nothing in it that a reader would obey.

    On GitHub Actions that takes whole lines. Elsewhere text is given as it comes, because it may
    be a progress bar that somebody watches.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    by_lines = on_actions()
    kept = ""
    for part in parts:
        text = kept + decoder.decode(part)
        end = text.rfind("\n") + 1 if by_lines else _uncut(text)
        if len(text) - end > _LONGEST:
            end = len(text)
        kept = text[end:]
        yield _harmless_part(text[:end], by_lines=by_lines)
    yield _harmless_part(kept + decoder.decode(b"", final=True), by_lines=by_lines)


def _harmless_part(text: str, *, by_lines: bool) -> str:
    if not by_lines or not text:
        return harmless(text)
    return "".join(f"{inert(line)}\n" for line in harmless(text.removesuffix("\n")).split("\n"))


def _uncut(text: str) -> int:
    """Where a text ends, without what may be the beginning of a colour or of an end of line."""
    end = len(text) - text.endswith("\r")
    colour = text.rfind("\x1b", -_LONGEST_COLOUR)
    return colour if colour >= 0 and "m" not in text[colour:] else end


# All that is not ASCII, as candidates for what cannot be seen.
_BEYOND = re.compile("[^\x00-\x7e]")


def json_line(value: object) -> str:
    """A value as one line of JSON that neither a terminal nor GitHub's runner takes for more.

    What an eval reported may be in it. Nothing is lost, because JSON can escape any character.
    """
    text = _BEYOND.sub(_escaped, msgspec.json.encode(value).decode())
    return OLDER_COMMAND.sub(r"\1\\u005b", text) if on_actions() else text


def _escaped(found: "re.Match[str]") -> str:
    character = found[0]
    if unicodedata.category(character)[0] not in {"C", "Z"}:
        return character
    pair = character.encode("utf-16-be")
    return "".join(f"\\u{pair[at : at + 2].hex()}" for at in range(0, len(pair), 2))
