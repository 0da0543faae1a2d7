"""What the pages show to be typed."""

import re
import shlex
import textwrap
from collections.abc import Iterator

import msgspec
import yaml

from tests.docs.page import FENCE, PAGES

# Of blocks that hold commands; `python` is run as it is.
COMMANDS = ("sh", "console", "yaml")
OTHERS = ("python", "text", "json", "jsonl", "toml", "dockerfile", "mermaid", "diff", "xml")


class Typed(msgspec.Struct, frozen=True, kw_only=True):
    """One command.

    Attributes:
        text: as it is typed.
        answer: the lines shown below it.
    """

    text: str
    answer: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The command without a comment behind it."""
        return re.sub(r"\s+#\s.*", "", self.text)

    @property
    def status(self) -> int:
        """The exit code that the page implies: errors shown are those of a bad command line."""
        return 2 if self.answer[:1] and self.answer[0].startswith("Error: ") else 0


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A code block, or the steps of a job in one.

    Attributes:
        page: where it is.
        typed: the commands, in their order.
    """

    page: str
    typed: tuple[Typed, ...]

    @property
    def name(self) -> str:
        """Of its test."""
        return f"{self.page}-{self.typed[0].name}"


def languages(text: str) -> set[str]:
    """Those of a page's code blocks."""
    return {found[1] for found in FENCE.finditer(text)}


def shown(page: str, text: str) -> Iterator[Block]:
    """The blocks of a page that hold commands."""
    for found in FENCE.finditer(text):
        content = textwrap.dedent(found[2])
        match found[1]:
            case "sh":
                yield _block(page, map(_plain, _lines(content)))
            case "console":
                yield _block(page, _answered(content))
            case "yaml":
                for script in _scripts(yaml.safe_load(content)):
                    yield _block(page, map(_plain, _lines(script)))
            case _:
                pass


def _block(page: str, typed: Iterator[Typed]) -> Block:
    return Block(page=page, typed=tuple(typed))


def _plain(line: str) -> Typed:
    return Typed(text=line)


def _lines(script: str) -> Iterator[str]:
    """A line that ends with a backslash continues in the next; a comment is no command."""
    for line in re.sub(r"\\\n\s*", "", script).splitlines():
        if shlex.split(line, comments=True):
            yield line


def _answered(content: str) -> Iterator[Typed]:
    for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
        text, *answer = part.splitlines()
        yield Typed(text=text, answer=tuple(answer))


def _scripts(workflow: object) -> Iterator[str]:
    """The scripts of a workflow, those of one job together."""
    jobs = workflow.get("jobs", {}) if isinstance(workflow, dict) else {}
    for job in jobs.values():
        steps = [step["run"] for step in job.get("steps", ()) if "run" in step]
        if steps:
            yield "\n".join(steps)


BLOCKS = [block for page, text in PAGES.items() for block in shown(page, text)]
