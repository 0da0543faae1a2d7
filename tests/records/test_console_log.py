from pathlib import Path

from runner.records.layout import Layout
from runner.records.logs import LONGEST_TAIL, has_text, last_lines, recorded_tail


def test_the_last_lines_with_something_in_them_are_given(tmp_path: Path) -> None:
    """Empty lines say nothing, and trailing spaces neither."""
    path = tmp_path / "a.console.log"
    path.write_text("first\nsecond  \n\nthird\n\n")
    assert last_lines(path, 2) == ("second", "third")
    assert last_lines(path, 9) == ("first", "second", "third")


def test_of_a_progress_bar_only_its_last_state_is_given(tmp_path: Path) -> None:
    """What it wrote over is gone for a person, too."""
    path = tmp_path / "a.console.log"
    path.write_bytes(b"0/3\r1/3\r3/3\ndone\r\n")
    assert last_lines(path, 5) == ("3/3", "done")


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    """A log of any size costs the same, and a character cut in half does not hurt."""
    path = tmp_path / "a.console.log"
    path.write_bytes("ä".encode() * 100_001 + b"\nlast\n")
    *before, last = last_lines(path, 5)
    assert last == "last"
    assert sum(map(len, before)) < 20_000
    path.write_bytes(b"a" * (LONGEST_TAIL + 2))
    assert last_lines(path, 5) == ("a" * LONGEST_TAIL,)


def test_a_log_that_is_gone_has_no_lines(tmp_path: Path) -> None:
    """It is shown with a failure, which matters more."""
    assert last_lines(tmp_path / "none.console.log", 5) == ()


def test_bytes_that_are_no_text_are_given_as_such(tmp_path: Path) -> None:
    """An eval may print anything."""
    path = tmp_path / "a.console.log"
    path.write_bytes(b"\xff\n")
    assert last_lines(path, 5) == ("\N{REPLACEMENT CHARACTER}",)


def test_no_record_leads_out_of_the_logs(tmp_path: Path) -> None:
    """Records come from other hosts, too: neither a name nor a link is followed elsewhere."""
    layout = Layout(root=tmp_path / "progress", model="m", eval_set="s")
    layout.evallogs.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (layout.evallogs / "link").symlink_to(secret)
    (layout.evallogs / "log").write_text("printed")
    for name in ("../secret", str(secret), "evallogs/../../secret", "evallogs/link"):
        assert layout.log_paths([name]) == []
        assert recorded_tail(layout, name, 5) == ()
    assert layout.log_paths(["evallogs/log"]) == [layout.evallogs / "log"]
    assert recorded_tail(layout, "evallogs/log", 5) == ("printed",)


def test_an_empty_log_has_nothing_to_read(tmp_path: Path) -> None:
    """Nor has one that is not there, so that neither is named to anybody."""
    path = tmp_path / "a"
    assert not has_text(path)
    path.touch()
    assert not has_text(path)
    path.write_text("x")
    assert has_text(path)
