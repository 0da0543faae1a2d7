import os
import subprocess
from pathlib import Path

import pytest

from tests.hosts.remotes import REMOTES, git

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(os.geteuid() != 0, reason="an SSH server of our own needs root"),
]


@pytest.mark.parametrize("name", REMOTES)
def test_a_remote_can_be_cloned_and_pushed_to(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing but what its user has in ~/.gitconfig."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    with REMOTES[name](tmp_path) as remote:
        (tmp_path / ".gitconfig").write_text(remote.configuration)
        git(tmp_path, "clone", "--quiet", "--depth", "1", remote.url, "clone")
        clone = tmp_path / "clone"
        assert git(clone, "rev-list", "--count", "HEAD") == "1\n"
        git(clone, "push", "--quiet", "origin", "HEAD:refs/heads/new")
        assert remote.git("rev-parse", "new") == remote.git("rev-parse", "main")
    gone = subprocess.run(["git", "ls-remote", remote.url], capture_output=True, check=False)
    assert (gone.returncode != 0) is (name != "file")
