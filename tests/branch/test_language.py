import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from runner.branch.git import GitError, run_git
from tests.branch.desk import Desk

# What the runner knows by its words, in a language that nobody speaks.
TRANSLATED = {
    "fatal: ": "fatalo: ",
    "couldn't find remote ref %s": "mankas la referenco %s",
    "Needed a single revision": "Mankas unu revizio",
}

# Compiled, and part of the C library's own package on Debian and Ubuntu.
ANY_LOCALE = "/usr/lib/locale/C.utf8"


def catalogue(texts: dict[str, str]) -> bytes:
    """A file of translations, as gettext reads them."""
    pairs = sorted({"": "Content-Type: text/plain; charset=UTF-8\n", **texts}.items())
    start = 28 + 16 * len(pairs)
    tables, data = [b"", b""], b""
    for column in (0, 1):
        for pair in pairs:
            text = pair[column].encode()
            tables[column] += struct.pack("<II", len(text), start + len(data))
            data += text + b"\0"
    header = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, start)
    return header + tables[0] + tables[1] + data


@pytest.fixture(autouse=True)
def foreign_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Git that speaks another language, as the variables of this process say."""
    messages = tmp_path / "locale/eo/LC_MESSAGES"
    messages.mkdir(parents=True)
    (messages / "git.mo").write_bytes(catalogue(TRANSLATED))
    # The runner takes variables away that begin with GIT_, so that this one is set behind it.
    program = tmp_path / "bin/git"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nGIT_TEXTDOMAINDIR={tmp_path}/locale exec {shutil.which("git")} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    # Under another name, because new C libraries translate nothing for one that begins with C.
    shutil.copytree(ANY_LOCALE, tmp_path / "compiled/eo.utf8")
    monkeypatch.setenv("LOCPATH", f"{tmp_path}/compiled")
    monkeypatch.setenv("LC_ALL", "eo.UTF-8")
    monkeypatch.setenv("LANGUAGE", "eo")
    line = [str(program), "rev-parse", "--verify", "nothing"]
    said = subprocess.run(line, capture_output=True, check=False, cwd=tmp_path)
    assert b"fatalo: " in said.stderr, "Git speaks English, so these tests would show nothing"


def test_git_speaks_english_to_the_runner(desk: Desk) -> None:
    """What it refuses is told in one language, and known by it."""
    with pytest.raises(GitError) as caught:
        run_git(["rev-parse", "--verify", "nothing"], folder=desk.clone)
    assert caught.value.said == "fatal: Needed a single revision\n"


def test_a_branch_that_the_remote_does_not_have_is_none(desk: Desk, hub: Path) -> None:
    """Git says so in words alone."""
    with desk.snapshots(remote=str(hub)) as (snapshots, _):
        assert snapshots.branch.fetch() is None
