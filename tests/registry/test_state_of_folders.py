import os
from pathlib import Path

from runner.registry.content import state_of_folders


def test_the_state_of_folders_changes_with_any_file(tmp_path: Path) -> None:
    """Content by size and time, names, and rights; the same folders give the same."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "data").mkdir(parents=True)
        (folder / "data/a.jsonl").write_text("1")
    (one / ".git").mkdir()
    seen = {state_of_folders([one, two])}
    assert state_of_folders([one, two]) in seen

    def changed() -> bool:
        state = state_of_folders([one, two])
        known = state in seen
        seen.add(state)
        return not known

    (one / "data/a.jsonl").write_text("12")
    assert changed()
    os.utime(two / "data/a.jsonl", (1, 1))
    assert changed()
    (two / "data/a.jsonl").chmod(0)
    assert changed()
    (two / "data/a.jsonl").rename(two / "data/b.jsonl")
    assert changed()
    (two / "data/gone").symlink_to("nowhere")
    assert not changed()
    (one / ".git/index").write_text("of Git alone")
    assert not changed()
    assert state_of_folders([one]) != state_of_folders([two])
