import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import EnvironmentFault
from runner.files import replace
from runner.model import Attempt, Command, Fault, Result
from runner.records.progress import AttemptsFile, RecordedAttempts, move_attempts, read_attempts
from tests.outcomes import failure, job, success

texts = st.text(max_size=10)
names = st.lists(texts, max_size=3).map(tuple)
figures = st.dictionaries(texts, texts | st.integers() | st.booleans() | st.none(), max_size=3)
records = st.builds(
    Attempt,
    id=texts,
    run=texts,
    host=texts,
    command=names.map(Command),
    eval=texts,
    result=st.sampled_from(Result),
    fault=st.none() | st.sampled_from(Fault),
    reason=texts,
    exit_code=st.none() | st.integers(0, 255),
    oom_killed=st.booleans(),
    started_at=st.none() | texts,
    ended_at=texts,
    duration=st.floats(0, 1e6),
    image=texts,
    logs=names,
    console_log=st.none() | texts,
    final_report=st.none() | figures,
    samples=st.integers(0, 10**6),
    warnings=names,
)

LINE = {
    "version": 1,
    "attempt": "1",
    "run": "r",
    "host": "h",
    "command": ["oaieval", "dummy", "a"],
    "eval": "a",
    "result": "success",
    "ended_at": "2025-01-01T00:00:00Z",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attempts")


def text(**changes: object) -> bytes:
    """A line of an attempts file."""
    return json.dumps(LINE | changes).encode() + b"\n"


@given(written=st.lists(records, max_size=3, unique_by=lambda record: record.id))
@settings(max_examples=50)
def test_every_field_comes_back(folder: Path, written: list[Attempt]) -> None:
    """What is written is what is read, one JSON object a line."""
    path = folder / "all.attempts.jsonl"
    path.unlink(missing_ok=True)
    with AttemptsFile(path) as file:
        file.add_records(*written)
    assert read_attempts(path) == RecordedAttempts(records=tuple(written))
    assert [json.loads(line)["version"] for line in path.read_bytes().split(b"\n")[:-1]] == [
        1
    ] * len(written)


def test_an_attempt_is_kept_as_other_programs_know_it(tmp_path: Path) -> None:
    """The job stands there as command and eval, the id as `attempt`, and every field has a name."""
    path = tmp_path / "a.attempts.jsonl"
    made = failure(
        job("a", "--seed", "1"), "id", run="the run", host="the host", final_report={"accuracy": 1}
    )
    with AttemptsFile(path) as file:
        file.add_records(made)
    written = json.loads(path.read_bytes())
    assert (written["attempt"], written["run"], written["host"]) == ("id", "the run", "the host")
    assert written["command"] == ["oaieval", "dummy", "a", "--seed", "1"]
    assert (written["eval"], written["result"], written["fault"]) == ("a", "failure", "eval")
    assert written.keys() == {*Attempt.__struct_fields__} - {"id"} | {"attempt"}


def test_a_missing_file_has_no_records(tmp_path: Path) -> None:
    """Reading neither fails nor creates anything."""
    assert read_attempts(tmp_path / "none.attempts.jsonl") == RecordedAttempts()
    assert not list(tmp_path.iterdir())


def test_fields_of_a_later_version_are_tolerated(tmp_path: Path) -> None:
    """A newer runner may write more."""
    path = tmp_path / "a.attempts.jsonl"
    path.write_bytes(text(version=2, colour="green"))
    (record,) = read_attempts(path).records
    assert (record.version, record.id) == (2, "1")


@pytest.mark.parametrize(
    "line",
    [b"no JSON\n", b'["a"]\n', b"{}\n", text(result="splendid"), b"\xff\n", b"[" * 9999 + b"\n"],
)
def test_a_foreign_line_is_named_and_kept(tmp_path: Path, line: bytes) -> None:
    """The message has file and line number, the others count, and the file stays as it is."""
    path = tmp_path / "a.attempts.jsonl"
    content = text() + line + text(attempt="2")
    path.write_bytes(content)
    found = read_attempts(path)
    assert [record.id for record in found.records] == ["1", "2"]
    assert found.damaged == (f"{path}: line 2 cannot be read and is left as it is",)
    assert path.read_bytes() == content


def test_a_torn_last_line_is_no_damage(tmp_path: Path) -> None:
    """A crash leaves one; it is put aside when the next record is written."""
    path = tmp_path / "a.attempts.jsonl"
    path.write_bytes(text() + text(attempt="2")[:-20])
    assert [record.id for record in read_attempts(path).records] == ["1"]
    assert not read_attempts(path).damaged
    with AttemptsFile(path) as file:
        file.add_records(success(job(), "3"))
    assert [record.id for record in read_attempts(path).records] == ["1", "3"]
    assert path.with_name(f"{path.name}.torn").read_bytes() == text(attempt="2")[:-20] + b"\n"


@pytest.mark.parametrize(
    ("count", "lines"), [(1, "1"), (3, "1, 2, 3"), (4, "1, 2, 3, ..."), (5, "1, 2, 3, ...")]
)
def test_lines_of_a_newer_version_are_told_once(tmp_path: Path, count: int, lines: str) -> None:
    """With the numbers of the first ones."""
    path = tmp_path / "a.attempts.jsonl"
    path.write_bytes(b"".join(text(attempt=f"{n}", version=2) for n in range(count)))
    (message,) = read_attempts(path).damaged
    assert message == (
        f"{path}: written by a newer evalset: line {lines}; what this one understands of it "
        "counts, and it is left as it is"
    )


def test_lines_are_on_the_disk_twice_before_they_are_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the two writes loses none of them, and doing it again is all it takes."""
    path, target = tmp_path / "attempts.jsonl", tmp_path / "attempts.jsonl.DATE"
    with AttemptsFile(path) as file:
        file.add_records(success(job("a"), "1"), failure(job("b"), "2"))
    before = path.read_bytes()
    writes: list[Path] = []

    def crash(place: Path, content: bytes, *, writer: str) -> None:
        if writes:
            raise EnvironmentFault("killed")
        writes.append(place)
        replace(place, content, writer=writer)

    def goes(attempt: Attempt) -> bool:
        return attempt.result is Result.FAILURE

    with monkeypatch.context() as patched:
        patched.setattr("runner.records.progress.replace", crash)
        with pytest.raises(EnvironmentFault):
            move_attempts(path, target, goes)
    assert (writes, path.read_bytes()) == ([target], before)
    assert target.read_bytes() == before.splitlines(keepends=True)[1]
    assert move_attempts(path, target, goes) == 1
    assert path.read_bytes() + target.read_bytes() == before
