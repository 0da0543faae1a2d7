"""A branch with damaged or hostile files stops nothing, and harms nothing."""

import re
from pathlib import Path

import pytest

from tests.branch.desk import git
from tests.commands.conftest import Here, contents
from tests.commands.repositories import BRANCH, FINISHED, NAMES, PULL, TAKE, begin


def put_on_branch(folder: Path, path: str, content: bytes) -> None:
    """Commit a file to the progress branch, behind the program's back."""
    (folder / "damaged").write_bytes(content)
    oid = git(folder, "hash-object", "-w", "--no-filters", "damaged")
    (folder / "damaged").unlink()
    for each in git(folder, "ls-tree", "-r", BRANCH).splitlines():
        mode, _, old, name = each.split(maxsplit=3)
        git(folder, "update-index", "--add", "--cacheinfo", f"{mode},{old},{name}")
    git(folder, "update-index", "--add", "--cacheinfo", f"100644,{oid},{path}")
    made = git(folder, "commit-tree", "-p", BRANCH, "-m", "x", git(folder, "write-tree"))
    git(folder, "update-ref", f"refs/heads/{BRANCH}", made)
    git(folder, "read-tree", "--empty")


def test_a_damaged_progress_file_on_the_branch(here: Here, tmp_path: Path) -> None:
    """It is named with its line, and kept; what can be read counts."""
    store = begin(tmp_path / "store")
    where = ("--snapshot-repo", str(store))
    assert here.evalset(*TAKE, *where).returncode == 0
    good = '["oaieval", "dummy", "c.dev.v0"]\n'
    put_on_branch(store, FINISHED, f'["oaieval", "dumm\n{good}'.encode())
    ended = here.evalset(*PULL, *where)
    assert ended.returncode == 0
    assert re.fullmatch(r"warning: branch \S+:\S+progress\.txt: line 1 .*\n", ended.stderr)
    assert here.progress.read_text().splitlines()[-1] == good.strip()
    assert len(here.progress.read_text().splitlines()) == 3
    shown = here.evalset("status", "--branch", BRANCH, *where)
    assert shown.returncode == 0
    assert "progress.txt: line 1 " in shown.stderr
    assert here.evalset(*TAKE, *where).returncode == 0
    kept = git(store, "show", f"{BRANCH}:{FINISHED}").splitlines()
    assert '["oaieval", "dumm' in kept
    assert len(kept) == 4


@pytest.mark.parametrize("name", ["attempts.jsonl", "run.json", "left-out.jsonl"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00{\n", b"[[[[\n{}\nnull\n", b""])
def test_other_damaged_files_on_the_branch(
    here: Here, tmp_path: Path, name: str, content: bytes
) -> None:
    """They stop nothing, and no traceback is shown."""
    store = begin(tmp_path / "store")
    where = ("--snapshot-repo", str(store))
    assert here.evalset(*TAKE, *where).returncode == 0
    put_on_branch(store, f"oaievalset/dummy.mine.{name}", content)
    for command in (PULL, TAKE, ("status", "--branch", BRANCH), ("snapshot", "show", *NAMES)):
        ended = here.evalset(*command, *where)
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr
    assert here.progress.read_text().count("\n") == 2


@pytest.mark.parametrize(
    "name", ["evallogs/../../escaped", "evallogs/a\nb", "evallogs/.git/config", "evallogs/\x1b[2J"]
)
def test_a_log_with_a_name_that_leads_elsewhere(here: Here, tmp_path: Path, name: str) -> None:
    """Nothing is written outside, and what cannot be shown is not shown as it is."""
    store = begin(tmp_path / "store")
    where = ("--snapshot-repo", str(store))
    assert here.evalset(*TAKE, *where).returncode == 0
    tree = hostile_tree(store, name)
    made = git(store, "commit-tree", "-p", BRANCH, "-m", "x", tree)
    git(store, "update-ref", f"refs/heads/{BRANCH}", made)
    before = contents(here.folder)
    ended = here.evalset(*PULL, *where)
    assert ended.returncode == 0
    assert ended.stderr.isprintable() or ended.stderr.replace("\n", "").isprintable()
    after = contents(here.folder)
    new = {path for path in after if path not in before}
    assert all(path.startswith(f"{here.folder}/progress/") for path in new)
    assert not (tmp_path / "escaped").exists()
    assert not (here.folder / "escaped").exists()


def hostile_tree(store: Path, name: str) -> str:
    """A tree like that of the branch with one more log, made by hand as Git would refuse to."""
    (store / "blob").write_bytes(b"hostile\n")
    oid = bytes.fromhex(git(store, "hash-object", "-w", "blob"))
    entry = oid, b"100644"
    for part in reversed(name.split("/")[1:]):
        (store / "raw").write_bytes(entry[1] + b" " + part.encode() + b"\0" + entry[0])
        made = git(store, "hash-object", "-t", "tree", "-w", "--literally", "raw")
        entry = bytes.fromhex(made), b"40000"
    rows = {b"evallogs": b"40000 evallogs\0" + entry[0]}
    for line in git(store, "ls-tree", BRANCH).splitlines():
        mode, _, old, path = line.split(maxsplit=3)
        row = f"{mode.lstrip('0')} {path}\0".encode() + bytes.fromhex(old)
        rows[path.encode()] = row
    (store / "raw").write_bytes(b"".join(rows[path] for path in sorted(rows)))
    return git(store, "hash-object", "-t", "tree", "-w", "--literally", "raw")
