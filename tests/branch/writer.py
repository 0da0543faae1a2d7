"""A program that takes and pushes snapshots, while others do so on the same branch.

Arguments: a folder for its files, its name, its repository, the remote, how many snapshots to take,
and a file that appears when all begin. Prints how many pushes that took.
"""

import sys
import time
from pathlib import Path

from tests.branch.desk import Desk


def write(folder: Path, name: str, repository: Path, *, remote: str, count: int) -> int:
    """Put an eval on record, take a snapshot of it and push it, `count` times."""
    desk = Desk(folder, repository, name)
    with desk.snapshots(remote=remote) as (snapshots, _):
        for number in range(count):
            desk.succeed(f"{name}-{number}")
            snapshots.take()
            snapshots.push()
        return snapshots.pushes


def main() -> None:
    """Wait until all may begin, then write."""
    folder, name, repository, remote, count, start = sys.argv[1:]
    while not Path(start).exists():
        time.sleep(0.01)
    print(write(Path(folder), name, Path(repository), remote=remote, count=int(count)))


if __name__ == "__main__":
    main()
