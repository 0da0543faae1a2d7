"""Print seconds for adding commands to a progress file, some of them with each fsync.

A run writes with one fsync all outcomes that came while it wrote the ones before.
"""

import sys
import time
from pathlib import Path

from runner.model import Command
from runner.records.progress import ProgressFile

count, together = int(sys.argv[2]), int(sys.argv[3])
arguments = ("--max_samples", "25")
commands = [Command(("oaieval", "gpt-4", f"eval-{i}.dev.v0", *arguments)) for i in range(count)]
began = time.perf_counter()
with ProgressFile(Path(sys.argv[1])) as file:
    for first in range(0, count, together):
        file.add_commands(*commands[first : first + together])
print(time.perf_counter() - began)
