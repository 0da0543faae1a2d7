from collections.abc import Mapping
from typing import Any

from runner.pipeline.options import SnapshotOptions

# Parameters of the commands that take some of these, and what they say.
_FIELDS = {
    "snapshot_branch": "branch",
    "snapshot_repo": "repo",
    "remote": "remote",
    "snapshot_every": "every",
    "snapshot_max_file": "max_file",
}


def snapshot_options(given: Mapping[str, Any]) -> SnapshotOptions:
    """Where snapshots go, from click's parameters; what a command does not take is the default."""
    return SnapshotOptions(
        **{field: given[name] for name, field in _FIELDS.items() if name in given}
    )
