import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import asking, gateway, hosts, many, progress_file, reports, snapshots, whole
from bench.figure import Figure

RESULTS = Path(__file__).with_name("results.json")


def of_runs() -> list[Figure]:
    """Whole runs and progress files, each side by side with what it is compared to."""
    return [
        whole.wall_time(runs=5),
        whole.many_containers(runs=3, at_once=os.cpu_count() or 1),
        whole.many_containers(runs=3, at_once=2 * (os.cpu_count() or 1)),
        whole.first_command(runs=7),
        whole.help_time(runs=15),
        whole.nothing_to_run(runs=7),
        *whole.looking(runs=5),
        *progress_file.resuming(runs=5),
        progress_file.adding(runs=3, together=16),
        progress_file.adding(runs=3, together=1),
        progress_file.growth(runs=3),
    ]


def of_snapshots() -> list[Figure]:
    """Snapshots, the same way."""
    return [
        snapshots.in_a_large_branch(runs=15, sets=20),
        snapshots.in_a_large_branch(runs=15, sets=1),
        snapshots.against_plain_git(runs=15),
        snapshots.many_writers(writers=32, snapshots=20),
        snapshots.wall_time(runs=3),
    ]


def of_reports() -> list[Figure]:
    """Reports, of many evals and of one huge log."""
    return [
        *reports.of_many_samples(evals=1000, samples=1000, runs=3),
        reports.of_overview(evals=1000, runs=9),
        reports.of_one_log(runs=1, events=100_000, megabytes=500),
    ]


def of_gateway() -> list[Figure]:
    """Evals that ask through the gateway, and its process."""
    return [
        *asking.one_eval(runs=3),
        asking.replay(runs=3),
        asking.first_container(runs=9),
        *gateway.latency(rounds=5),
        *gateway.rate(runs=5),
        *gateway.on_record(runs=5, answers=100_000),
    ]


GROUPS = {
    "runs": of_runs,
    "snapshots": of_snapshots,
    "many": many.of_one_run,
    "report": of_reports,
    "gateway": of_gateway,
    "hosts": hosts.over_hosts,
}


def main(groups: Sequence[str]) -> int:
    """Print the table and write the results; exit 1 if a goal is missed.

    Args:
        groups: what to measure; none is all. The results of the others stay as they are.
    """
    if unknown := {*groups} - GROUPS.keys():
        sys.exit(f"bench: no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    figures = [figure for group in groups or GROUPS for figure in GROUPS[group]()]
    for figure in figures:
        verdict = "ok  " if figure.met else "MISS"
        sign = ">=" if figure.at_least else "<="
        print(
            f"{verdict} {figure.ratio:8.3f} (goal {sign} {figure.goal:g})  {figure.name}  "
            f"[{figure.ours:.4g} / {figure.theirs:.4g} {figure.unit}]"
        )
    before = msgspec.json.decode(RESULTS.read_bytes(), type=list[Figure]) if groups else []
    results = {figure.name: figure for figure in (*before, *figures)}
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode([*results.values()])) + b"\n")
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
