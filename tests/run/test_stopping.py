from pathlib import Path

import pytest

from runner.files import DiskSpace
from runner.records.layout import Layout
from runner.run.hosts import RunHosts
from runner.run.stopping import Disk


def test_a_run_on_hosts_looks_at_no_disk_of_an_engine_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `/dev` is small, as in a container, such a run was refused for that."""
    looked: list[Path] = []

    def room(place: Path) -> DiskSpace:
        looked.append(place)
        return DiskSpace(place=place, free=2**40, files=None)

    monkeypatch.setattr("runner.run.stopping.room", room)
    layout = Layout(root=tmp_path, model="m", eval_set="s")
    assert Disk(layout, RunHosts.engine_root, least=1).short() is None
    assert looked == [tmp_path]
