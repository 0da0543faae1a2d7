"""Print seconds for adding commands with upstream's class; it rewrites its file each time."""

import contextlib
import io
import sys
import time

from evals.cli.oaievalset import Progress  # type: ignore[import-not-found] # upstream's environment

progress = Progress(sys.argv[1])
began = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    for i in range(int(sys.argv[2])):
        progress.add(["oaieval", "gpt-4", f"eval-{i}.dev.v0", "--max_samples", "25"])
print(time.perf_counter() - began)
