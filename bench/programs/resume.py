"""Print seconds and peak memory in MB of loading finished commands and planning what is left."""

import time

began = time.perf_counter()

import sys  # noqa: E402 - the clock runs already
from pathlib import Path  # noqa: E402

from runner.model import ContainerSettings  # noqa: E402
from runner.options import RunOptions  # noqa: E402
from runner.plan.plan import make_plan  # noqa: E402
from runner.records.progress import read_progress  # noqa: E402

path, count = Path(sys.argv[1]), int(sys.argv[2])
settings = ContainerSettings(
    image="i", memory=1, cpus=1, pids_limit=1, gpus=None, timeout=1, network="none"
)
options = RunOptions(
    model="gpt-4",
    eval_set="big",
    passed_through=("--max_samples", "25"),
    progress_dir=path.parent,
)
done = read_progress(path)
plan = make_plan(
    options,
    evals=[f"eval-{i}.dev.v0" for i in range(count)],
    settings=lambda _: settings,
    done=done.commands,
)
took = time.perf_counter() - began
if len(plan.done) != count or plan.todo:
    sys.exit("not all were found to be done")
# `ru_maxrss` would be that of the parent, which has more.
status = Path("/proc/self/status").read_text()
print(took, int(status.partition("VmHWM:")[2].split()[0]) / 1024)
