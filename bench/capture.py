"""Turns what tmux captured of a real terminal into a picture, on stdout.

Use: tmux capture-pane -e -p -t SESSION | .venv/bin/python bench/capture.py 86 > docs/done.svg
"""

import re
import sys

from rich.console import Console
from rich.text import Text

text = Text.from_ansi(sys.stdin.read().rstrip())
console = Console(record=True, width=int(sys.argv[1]), file=sys.stderr, force_terminal=True)
console.print(text)
picture = console.export_svg(title="evalset")
# The picture must fetch nothing: any monospaced font will do.
sys.stdout.write(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))
