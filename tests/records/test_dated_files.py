from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.errors import EnvironmentFault
from runner.records.layout import keep_dated


def test_files_are_kept_under_one_date(tmp_path: Path) -> None:
    """That of now, in UTC; those that are not there are passed over."""
    paths = [tmp_path / "a.txt", tmp_path / "none", tmp_path / "folder/b.jsonl"]
    (tmp_path / "folder").mkdir()
    for path in (paths[0], paths[2]):
        path.write_text(path.name)
    moved = keep_dated(paths)
    assert [path.read_text() for path in moved] == ["a.txt", "b.jsonl"]
    assert [path.parent for path in moved] == [tmp_path, tmp_path / "folder"]
    stamps = {path.name.split(".", 2)[2] for path in moved}
    assert len(stamps) == 1
    when = datetime.strptime(stamps.pop(), "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    assert timedelta() <= datetime.now(UTC) - when < timedelta(minutes=1)
    assert not any(path.exists() for path in paths)


def test_a_file_that_cannot_be_renamed_is_told(tmp_path: Path) -> None:
    """Its name has no room for a date."""
    path = tmp_path / ("x" * 250)
    path.write_text("")
    with pytest.raises(EnvironmentFault) as caught:
        keep_dated([path])
    assert str(caught.value) == f"cannot rename {path}: File name too long"
    assert path.exists()
