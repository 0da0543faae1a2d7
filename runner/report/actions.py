import contextlib
import os
import re
from collections.abc import Iterator
from typing import TextIO

# GitHub's runner obeys `::name::` where a line begins with it, and the older `##[name]` anywhere.
# It compares as .NET does, for which characters that cannot be seen are not there.
# https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
_COMMAND = re.compile(r"[^!-~]*:[^!-~]*:")
OLDER_COMMAND = re.compile(r"(#[^!-~]*#[^!-~]*)\[")


def on_actions() -> bool:
    """Whether this is a step of a GitHub Actions job, where lines of output can be commands."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def inert(line: str) -> str:
    """A line in which GitHub's runner finds no command; elsewhere the line as it is."""
    if not on_actions():
        return line
    if _COMMAND.match(line):
        line = f"| {line}"
    return OLDER_COMMAND.sub(r"\1(", line)


def command(name: str, text: str) -> str:
    """The line by which GitHub's runner takes one line of text as an error, a group's title ..."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{name}::{escaped}"


@contextlib.contextmanager
def group(out: TextIO, title: str) -> Iterator[None]:
    """What is printed inside can be folded away on Actions; elsewhere it is printed as ever."""
    if not on_actions():
        yield
        return
    print(command("group", title), file=out, flush=True)
    yield
    print(command("endgroup", ""), file=out, flush=True)
