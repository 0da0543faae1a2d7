from datetime import UTC, datetime

import msgspec

from runner import __version__
from runner.branch.progress_branch import ProgressBranch

_PREFIX = "Evalset-"


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of where it was taken.

    Attributes:
        model: as given.
        eval_set: as given.
        host: name of the host.
        image: digest of the image, or its fingerprint, or its id; None outside a run.
        shard: `I/N`; None for all.
        run: id of the run; None outside one.
    """

    model: str
    eval_set: str
    host: str
    image: str | None = None
    shard: str | None = None
    run: str | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A commit of a progress branch.

    Attributes:
        commit: its object id.
        at: when it was made, UTC, RFC 3339; empty for a time that no calendar has.
        subject: what was done.
        trailers: by name, without our prefix, lower case.
    """

    commit: str
    at: str
    subject: str
    trailers: dict[str, str]


def message(about: About, *, done: int, total: int, added: int) -> str:
    """The message of a commit: what was done, and by whom."""
    more = f" (+{added})" if added else ""
    trailers = {
        "Host": about.host,
        "Image": about.image,
        "Shard": about.shard,
        "Run": about.run,
        "Runner": __version__,
    }
    lines = [f"{_PREFIX}{name}: {value}" for name, value in trailers.items() if value]
    return "\n".join([f"{about.model} {about.eval_set} {done}/{total}{more}", "", *lines, ""])


def parse_trailers(body: str) -> dict[str, str]:
    """What a commit's message says besides its subject."""
    pairs = [
        line.removeprefix(_PREFIX).partition(": ")
        for line in body.splitlines()
        if line.startswith(_PREFIX)
    ]
    return {name.lower(): value for name, _, value in pairs}


def history(branch: ProgressBranch, tip: str) -> list[Snapshot]:
    """The snapshots up to `tip`, the newest first."""
    line = ("log", "--format=%H%x00%ct%x00%s%x00%b%x00%x00", tip)
    snapshots = []
    for entry in branch.repository.run(*line).decode(errors="replace").split("\0\0\n")[:-1]:
        commit, seconds, subject, body = entry.split("\0")
        try:
            at = datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
        except (OverflowError, ValueError, OSError):
            at = ""
        trailers = parse_trailers(body)
        snapshots.append(Snapshot(commit=commit, at=at, subject=subject, trailers=trailers))
    return snapshots
