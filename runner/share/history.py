from datetime import UTC, datetime

from runner.share.message import Snapshot, parse_trailers
from runner.share.progress_branch import ProgressBranch

_FORMAT = "%H%x00%ct%x00%s%x00%b%x00%x00"


def history(branch: ProgressBranch, tip: str) -> list[Snapshot]:
    """The snapshots up to `tip`, the newest first."""
    said = branch.repository.run("log", f"--format={_FORMAT}", tip).decode(errors="replace")
    snapshots = []
    for entry in said.split("\0\0\n")[:-1]:
        commit, at, subject, body = entry.split("\0")
        trailers = parse_trailers(body)
        moment = _moment(int(at))
        snapshots.append(Snapshot(commit=commit, at=moment, subject=subject, trailers=trailers))
    return snapshots


def _moment(seconds: int) -> str:
    """A time as RFC 3339 has it; empty for one that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return ""
