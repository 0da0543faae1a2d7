from datetime import UTC, datetime

from runner.errors import UsageError
from runner.share.message import Snapshot, parse_trailers
from runner.share.progress_branch import ProgressBranch

_FORMAT = "%H%x00%ct%x00%s%x00%b%x00%x00"


def history(branch: ProgressBranch) -> list[Snapshot]:
    """The snapshots of a branch, the newest first.

    Raises:
        UsageError: there is no such branch.
    """
    tip = branch.tip()
    if tip is None:
        raise UsageError(
            f"there is no branch {branch.name} in {branch.repository.git_dir}; "
            "`evalset snapshot pull` fetches it, `evalset snapshot take` makes it"
        )
    said = branch.repository.run("log", f"--format={_FORMAT}", tip).decode(errors="replace")
    snapshots = []
    for entry in said.split("\0\0\n")[:-1]:
        commit, at, subject, body = entry.split("\0")
        trailers = parse_trailers(body)
        moment = datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z")
        snapshots.append(Snapshot(commit=commit, at=moment, subject=subject, trailers=trailers))
    return snapshots
