import fcntl
import gzip
import hashlib
import itertools
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest

from runner.branch import segments as segments_module
from runner.branch.snapshots import Restored
from runner.records import snapshot
from runner.records.answers import (
    Answer,
    AnswersFile,
    AnswersLine,
    Given,
    Request,
    Reserved,
    Sent,
    Usage,
)
from runner.records.snapshot import SegmentName, pack
from runner.run.background_snapshots import BackgroundSnapshots
from tests.answered import kept_in
from tests.branch.desk import BRANCH, Desk, git, put_on_branch
from tests.conftest import until
from tests.outcomes import job

HELD = "hunter2-hunter2"
_ids = itertools.count()


def path_of(desk: Desk, name: str = "x") -> Path:
    """The answers file of one of a desk's evals."""
    return desk.layout.answers_of(job(name).command)


def eval_of(name: str = "x") -> str:
    """What the eval's file and the folder of its segments are called."""
    return f"{name}.{job(name).command.key}"


def paid(body: str = "an answer") -> list[AnswersLine]:
    """What a gateway writes for a request."""
    number = next(_ids)
    id_, key = f"id{number}", f"key{number}"
    return [
        Request(key=key, route="openai", method="POST", path="/v1/chat/completions", body={"a": 1}),
        Sent(id=id_, key=key, attempt="1", reserved=Reserved(tokens=5)),
        Answer(
            id=id_,
            key=key,
            attempt="1",
            headers={"content-type": "application/json"},
            body=body,
            usage=Usage(input=3, output=2),
            usd=0.1,
        ),
    ]


def write(desk: Desk, *lines: AnswersLine, name: str = "x") -> None:
    """Append to an answers file as the gateway does, in a run that has begun."""
    if not desk.layout.run.exists():
        desk.plan(name)
    with AnswersFile(path_of(desk, name)) as file:
        for line in lines:
            file.write(line)
        file.sync()


def lines_of(desk: Desk, name: str = "x") -> list[bytes]:
    """Those of an eval's answers file."""
    path = path_of(desk, name)
    return path.read_bytes().splitlines() if path.exists() else []


def on_branch(desk: Desk) -> list[str]:
    """Paths of the segments on a desk's branch."""
    return [path for path in desk.files_on_branch() if path.startswith("answers/")]


def lines_on_branch(desk: Desk) -> list[bytes]:
    """What the segments on a desk's branch hold."""
    return [
        line for path in on_branch(desk) for line in gzip.decompress(blob(desk, path)).splitlines()
    ]


def blob(desk: Desk, path: str) -> bytes:
    """The content of a file on a desk's branch."""
    line = ["git", "-C", str(desk.clone), "cat-file", "blob", f"{BRANCH}:{path}"]
    return subprocess.run(line, capture_output=True, check=True).stdout


def push(desk: Desk, **options: object) -> list[str]:
    """Put a desk's progress directory on the remote's branch; gives the warnings."""
    with desk.snapshots(answers=True, **options) as (snapshots, warnings):  # type: ignore[arg-type]
        snapshots.fetch()
        snapshots.take()
        snapshots.push()
    return warnings


def pull(desk: Desk, *, answers: bool = True) -> tuple[Restored, list[str]]:
    """Take over what the remote's branch has; gives the warnings, too."""
    warnings: list[str] = []
    with desk.snapshots(answers=answers) as (snapshots, _):
        return snapshots.restore(warn=warnings.append), warnings


def test_another_host_gets_the_answers(two: tuple[Desk, Desk]) -> None:
    """In the order in which they came; bringing them again adds nothing."""
    a, b = two
    write(a, *paid("one"), *paid("two"))
    write(a, *paid("three"), name="y")
    assert push(a) == []
    write(a, *paid("four"))
    push(a)
    assert pull(b) == (Restored(answers=4), [])
    assert lines_of(b) == lines_of(a)
    assert lines_of(b, "y") == lines_of(a, "y")
    before = path_of(b).stat()
    assert pull(b) == (Restored(), [])
    assert path_of(b).stat() == before


def test_answers_stay_here_unless_they_are_asked_for(two: tuple[Desk, Desk]) -> None:
    """Neither does a branch get them, nor does a host take them over, without that word."""
    a, b = two
    write(a, *paid())
    a.succeed("z")
    with a.snapshots() as (snapshots, _):
        snapshots.take()
        snapshots.push()
    assert on_branch(a) == []
    push(a)
    restored, warnings = pull(b, answers=False)
    assert (restored, warnings) == (Restored(finished=1, left=1), [])
    assert "--snapshot-answers" in restored.about_left(BRANCH)
    assert not b.layout.answers.exists()
    with b.snapshots() as (snapshots, _):
        b.succeed("y")
        snapshots.take()
        snapshots.push()
    assert on_branch(b) == on_branch(a), "what is there stays there"
    assert pull(a, answers=False)[0].left == 0, "it has them"


def test_two_hosts_put_their_answers_together(two: tuple[Desk, Desk]) -> None:
    """Each adds segments of its own; nothing that is there is written again."""
    a, b = two
    for desk in two:
        write(desk, *paid(desk.name))
    push(a)
    first = on_branch(a)
    push(b)
    assert set(on_branch(b)) > set(first)
    for desk in two:
        pull(desk)
    assert sorted(lines_of(a)) == sorted(lines_of(b))
    assert len(kept_in(path_of(a).read_bytes())) == 2
    count = len(on_branch(b))
    for desk in two:
        push(desk)
    assert len(on_branch(a)) == count, "what came from the branch does not go there again"


def test_two_hosts_that_push_at_once_lose_nothing(two: tuple[Desk, Desk]) -> None:
    """The one that comes too late merges."""
    a, b = two
    with a.snapshots(answers=True) as (one, _), b.snapshots(answers=True) as (other, _):
        for desk, snapshots in ((a, one), (b, other)):
            write(desk, *paid(desk.name))
            snapshots.take()
        one.push()
        other.push()
    assert set(lines_on_branch(b)) == {*lines_of(a), *lines_of(b)}


def test_a_snapshot_adds_only_what_is_new(desk: Desk) -> None:
    """Also where another process took the one before, and no file is written twice."""
    write(desk, *paid("one"))
    with desk.snapshots(answers=True) as (snapshots, _):
        assert snapshots.take()
        assert not snapshots.take()
        first = on_branch(desk)
        write(desk, *paid("two"))
        assert snapshots.take()
    write(desk, *paid("three"))
    with desk.snapshots(answers=True) as (snapshots, _):
        assert snapshots.take()
        assert not snapshots.take()
    assert len(on_branch(desk)) == 3
    assert set(first) < set(on_branch(desk))
    assert lines_on_branch(desk) == lines_of(desk)
    changed = git(desk.clone, "log", "--diff-filter=MD", "--format=%h", BRANCH, "--", "answers")
    assert changed == ""


def test_a_branch_that_was_taken_away_gets_all_of_it_again(desk: Desk) -> None:
    """The process remembers what it put there, but looks again when the branch has moved."""
    with desk.snapshots(answers=True) as (snapshots, _):
        write(desk, *paid("one"))
        snapshots.take()
        git(desk.clone, "update-ref", "-d", f"refs/heads/{BRANCH}")
        write(desk, *paid("two"))
        snapshots.take()
    assert lines_on_branch(desk) == lines_of(desk)


def test_few_lines_wait_for_more(desk: Desk) -> None:
    """Until there are enough of them, or it is time, or the run ends."""

    def taken(*, everything: bool = False) -> int:
        snapshots.take(everything=everything)
        return len(on_branch(desk))

    desk.succeed("z")
    with desk.snapshots(answers=True, every=1000) as (snapshots, _):
        write(desk, *paid("the first do not wait"))
        assert taken() == 1
        write(desk, *paid("these do"))
        assert taken() == 1
        write(desk, *paid("enough" * segments_module.LEAST))
        assert taken() == 2
        write(desk, *paid("the last"))
        assert taken() == 2
        assert taken(everything=True) == 3
    with desk.snapshots(answers=True, every=0) as (snapshots, _):
        write(desk, *paid("one"))
        assert taken() == 4
        write(desk, *paid("after some time"))
        assert taken() == 5
    assert lines_on_branch(desk) == lines_of(desk)


def test_the_last_snapshot_of_a_run_waits_for_nothing(desk: Desk) -> None:
    """And those before it do."""
    with desk.snapshots(answers=True) as (snapshots, warnings):
        write(desk, *paid("one"))
        snapshots.take()
        background = BackgroundSnapshots(snapshots, every=0.05, warn=warnings.append)
        background.start()
        write(desk, *paid("two"))
        desk.succeed("z")
        background.changed()
        until(lambda: "evallogs/hostz_m_z.jsonl" in desk.files_on_branch())
        assert len(on_branch(desk)) == 1
        assert background.end() == ""
    assert lines_on_branch(desk) == lines_of(desk)
    assert warnings == []


def test_a_line_that_is_being_written_comes_with_the_next_snapshot(desk: Desk) -> None:
    """Half a line is none."""
    one, two = (msgspec.json.encode(paid(text)[2]) + b"\n" for text in ("one", "two"))
    desk.plan("x")
    path = path_of(desk)
    path.parent.mkdir(parents=True)
    path.write_bytes(one + two[:20])
    with desk.snapshots(answers=True) as (snapshots, _):
        snapshots.take()
        assert lines_on_branch(desk) == [one.strip()]
        path.write_bytes(one + two)
        snapshots.take()
    assert lines_on_branch(desk) == [one.strip(), two.strip()]


def test_what_cannot_be_read_stays_here(desk: Desk) -> None:
    """No other host could use it; nor does anything else in the folder go to the branch."""
    write(desk, *paid("one"))
    path = path_of(desk)
    with path.open("ab") as file:
        file.write(b"{damaged\n\n")
    write(desk, *paid("two"))
    good = [line for line in lines_of(desk) if line.startswith(b'{"') and b"damaged" not in line]
    (path.parent / "notes.txt").write_text("mine")
    (path.parent / f"{eval_of('y')}.jsonl").symlink_to(path)
    with desk.snapshots(answers=True) as (snapshots, _):
        snapshots.take()
    assert lines_on_branch(desk) == good
    assert len(on_branch(desk)) == 1


def test_a_line_with_a_secret_stays_here_and_is_named(two: tuple[Desk, Desk]) -> None:
    """The rest travels; a later snapshot leaves it out, too, wherever it is taken."""
    a, b = two
    lines = [*paid("one"), *paid(f"the key is {HELD}"), *paid("two")]
    write(a, *lines)
    (warning,) = push(a, environment={"MY_KEY": HELD})
    name = f"answers/m.s/{eval_of()}.jsonl"
    assert warning.startswith(f"{name}, line 6 is left out of the snapshots: ")
    assert "the value of MY_KEY" in warning
    assert name in a.on_branch("oaievalset/m.s.left-out.jsonl")
    assert HELD.encode() not in b"".join(lines_on_branch(a))
    write(a, *paid("three"))
    assert push(a) == []
    assert HELD.encode() not in b"".join(lines_on_branch(a))
    assert pull(b)[0].answers == 3
    assert HELD not in git(a.clone, "log", "--patch", "--format=%B", BRANCH)
    write(b, lines[5])
    push(b)
    assert HELD.encode() not in b"".join(lines_on_branch(b))


def test_segments_are_no_larger_than_files_may_be(desk: Desk) -> None:
    """A single line that is larger, compressed too, stays here and is named."""
    noise = [hashlib.sha256(bytes([number])).hexdigest() for number in range(200)]
    write(desk, *paid("one"), *paid("".join(noise)), *(line for _ in range(20) for line in paid()))
    with desk.snapshots(answers=True, max_file=2000) as (snapshots, warnings):
        snapshots.take()
    assert len(on_branch(desk)) > 2
    assert all(len(blob(desk, path)) <= 2000 for path in on_branch(desk))
    (warning,) = warnings
    assert f"{eval_of()}.jsonl, line 6 is left out" in warning
    assert "--snapshot-max-file" in warning
    assert lines_on_branch(desk) == lines_of(desk)[:5] + lines_of(desk)[6:]
    with desk.snapshots(answers=True) as (snapshots, warnings):
        snapshots.take()
    assert warnings == []
    assert sorted(lines_on_branch(desk)) == sorted(lines_of(desk))


def test_a_model_with_a_slash_in_its_name_is_another_one(two: tuple[Desk, Desk]) -> None:
    """Its answers lie below a folder that may be called like that of a model without one."""
    a, b = two
    other = f"answers/m.s/t.s/{pack(eval_of(), 1, [b'x'])[0]}"
    write(a, *paid())
    push(a)
    put_on_branch(a, other, b"x")
    assert pull(b) == (Restored(answers=1), [])


def hostile(lines: bytes) -> tuple[str, bytes]:
    """A segment of these lines: its path and what is stored."""
    name, stored = pack(eval_of(), 1, [lines])
    return f"answers/m.s/{name}", stored


def forged(**fields: object) -> bytes:
    """A line like that of an answer, but for some fields."""
    line = msgspec.to_builtins(paid()[2])
    return msgspec.json.encode({**line, "kind": "answer", **fields}) + b"\n"


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("answers/m.s/notes", "100644"),
        ("answers/m.s/e.0123456789abcdef/line\nbreak", "100644"),
        (hostile(b"x\n")[0], "120000"),
        (hostile(b"x\n")[0], "100644"),
        (
            f"answers/m.s/{eval_of()}/00000001-{hashlib.sha256(b'x').hexdigest()[:16]}.jsonl.gz",
            "100644",
        ),
    ],
    ids=["a name", "a line break", "a link", "another content", "no gzip"],
)
def test_what_is_no_segment_stays_on_the_branch(
    two: tuple[Desk, Desk], path: str, mode: str
) -> None:
    """It is named on one line, and the others arrive."""
    a, b = two
    write(a, *paid())
    push(a)
    put_on_branch(a, path, b"x", mode=mode)
    restored, (warning,) = pull(b)
    assert restored.answers == 1
    assert "files of answers stay on the branch (1)" in warning
    assert "\n" not in warning
    assert lines_of(b) == lines_of(a)
    assert [found.name for found in b.layout.answers.iterdir()] == [path_of(b).name]


@pytest.mark.parametrize(
    "line",
    [
        b"{not JSON\n",
        b"[" * 100_000 + b"\n",
        b'{"kind":"a later one"}\n',
        b'{"kind":"given","id":"1","attempt":"\xff"}\n',
        forged(body="\ud800".encode("utf-16", "surrogatepass").hex(), headers=5),
        forged(headers={"content-length": "3"}),
        forged(headers={"content-type": "text/plain\r\nset-cookie: a=b"}),
        b'{"kind":"request","key":"k","route":"r","method":"POST","path":"/","body":[}\n',
        forged(status=99),
        forged(status="200"),
        forged(usage={"input": -5, "output": 0}),
        forged(usd=-1.0),
        forged(seconds="long"),
        msgspec.json.encode(Sent(id="1", key="k", attempt="1", reserved=Reserved(tokens=-1)))
        + b"\n",
    ],
)
def test_a_line_that_no_gateway_writes_stays_on_the_branch(
    two: tuple[Desk, Desk], line: bytes
) -> None:
    """It is named on one line, and those around it arrive."""
    a, b = two
    good = [msgspec.json.encode(each) + b"\n" for each in (*paid("one"), *paid("two"))]
    a.succeed("z")
    push(a)
    path, stored = hostile(b"".join([*good[:3], line, *good[3:]]))
    put_on_branch(a, path, stored)
    restored, (warning,) = pull(b)
    assert restored.answers == 2
    assert lines_of(b) == [each.strip() for each in good]
    assert "lines of answers stay on the branch (1)" in warning
    assert f"line 4 of answers/m.s/{eval_of()}/00000001" in warning
    assert len(warning) < 300


def test_a_segment_that_would_fill_memory_stays_on_the_branch(
    two: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Little on the branch, much unpacked."""
    a, b = two
    write(a, *paid())
    push(a)
    name, bomb = pack(eval_of("y"), 1, [b" " * 100_000])
    put_on_branch(a, f"answers/m.s/{name}", bomb)
    monkeypatch.setattr(snapshot, "LARGEST_LINE", 50_000)
    restored, (warning,) = pull(b)
    assert restored.answers == 1
    assert str(name) in warning


def test_what_is_larger_than_a_segment_is_not_even_read(
    two: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git tells its size."""
    a, b = two
    write(a, *paid())
    push(a)
    name, _ = pack(eval_of("y"), 1, [])
    put_on_branch(a, f"answers/m.s/{name}", b"x" * 5000)
    monkeypatch.setattr(segments_module, "LARGEST_LINE", 4999)
    unpacked = []
    unpack = SegmentName.lines

    def unpacking(name: SegmentName, stored: bytes) -> bytes:
        unpacked.append(name)
        return unpack(name, stored)

    monkeypatch.setattr(SegmentName, "lines", unpacking)
    restored, (warning,) = pull(b)
    assert restored.answers == 1
    assert str(name) in warning
    assert name not in unpacked


def test_an_answer_on_record_is_not_replaced(two: tuple[Desk, Desk]) -> None:
    """One with the same id on a branch, perhaps forged, comes after it and counts for nothing."""
    a, b = two
    answer = paid("true")[2]
    assert isinstance(answer, Answer)
    write(b, answer)
    write(a, msgspec.structs.replace(answer, body="false"))
    push(a)
    pull(b)
    (kept,) = kept_in(path_of(b).read_bytes())
    with AnswersFile(path_of(b)) as file:
        assert file.answer(kept).body == "true"


def test_a_torn_line_of_a_crash_does_no_harm(two: tuple[Desk, Desk]) -> None:
    """It is set aside, and the branch's copy of it follows."""
    a, b = two
    write(a, *paid("one"), *paid("two"))
    push(a)
    whole = path_of(a).read_bytes()
    path_of(b).parent.mkdir(parents=True)
    path_of(b).write_bytes(whole[:-30])
    assert pull(b)[0].answers == 1
    assert path_of(b).read_bytes() == whole
    assert path_of(b).with_name(f"{path_of(b).name}.torn").exists()


def test_files_that_a_gateway_has_are_left_alone(two: tuple[Desk, Desk]) -> None:
    """That of a killed run still writes to them; what has no file yet arrives."""
    a, b = two
    write(a, *paid("one"))
    for text in ("two", "three"):
        write(a, *paid(text), name="y")
        push(a)
    write(b, Given(id="1", attempt="1"))
    before = lines_of(b)
    b.layout.gateway.mkdir(parents=True)
    with (b.layout.gateway / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        restored, (warning,) = pull(b)
        assert restored.answers == 2
        assert "the answers of 1 eval stay on the branch" in warning
        assert lines_of(b) == before
        assert lines_of(b, "y") == lines_of(a, "y")
    assert pull(b) == (Restored(answers=1), [])
    assert lines_of(b) == [*before, *lines_of(a)]


def test_a_gateway_may_write_while_snapshots_are_taken(desk: Desk) -> None:
    """Each line gets to the branch, once; a snapshot ends, however fast lines come."""
    desk.plan("x")
    stop = threading.Event()

    def keep_writing() -> None:
        with AnswersFile(path_of(desk)) as file:
            while not stop.is_set():
                for line in paid("x" * 500):
                    file.write(line)
                file.sync()

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        with desk.snapshots(answers=True) as (snapshots, _):
            until(lambda: snapshots.take() and len(on_branch(desk)) > 1)
            snapshots.take()
            assert writer.is_alive()
    finally:
        stop.set()
        writer.join()
    with desk.snapshots(answers=True) as (snapshots, _):
        snapshots.take()
    assert lines_on_branch(desk) == lines_of(desk)
