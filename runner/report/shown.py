import codecs
from typing import TextIO

from runner.report.actions import inert, on_actions
from runner.report.text import harmless

# Characters of one line that are kept until its end comes.
_LONGEST = 2**16

# Characters of a colour, and of what must not be taken for one.
_LONGEST_COLOUR = 16


class Shown:
    """Shows what an eval prints, piece by piece, with nothing in it that a reader would obey.

    On GitHub Actions that takes whole lines. On a terminal, where somebody may be watching a
    progress bar, text is shown as it comes.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._text = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._by_lines = on_actions()
        self._kept = ""

    def write(self, part: bytes) -> None:
        """Show a piece."""
        text = self._kept + self._text.decode(part)
        end = text.rfind("\n") + 1 if self._by_lines else _uncut(text)
        if len(text) - end > _LONGEST:
            end = len(text)
        self._kept = text[end:]
        self._show(text[:end])

    def end(self) -> None:
        """Show what is left."""
        self._show(self._kept + self._text.decode(b"", final=True))

    def _show(self, text: str) -> None:
        if self._by_lines and text:
            lines = harmless(text.removesuffix("\n")).split("\n")
            self._out.writelines(f"{inert(line)}\n" for line in lines)
        else:
            self._out.write(harmless(text))
        self._out.flush()


def _uncut(text: str) -> int:
    """Where a text ends, without what may be the beginning of a colour or of an end of line."""
    end = len(text) - text.endswith("\r")
    colour = text.rfind("\x1b", -_LONGEST_COLOUR)
    return colour if colour >= 0 and "m" not in text[colour:] else end
