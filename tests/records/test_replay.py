from pathlib import Path

import msgspec
import pytest

from runner.records.answers import (
    Answer,
    AnswersFile,
    AnswersLine,
    Failed,
    Given,
    Request,
    Returned,
    Sent,
)
from runner.records.answers_index import read_index
from runner.records.replay import (
    LONGEST,
    Missing,
    Replay,
    read_replay,
    read_unmatched,
    shown_request,
    write_replay,
)


def encoded(*lines: AnswersLine) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def request(key: str = "k", *, route: str = "openai", body: object = None) -> Request:
    return Request(key=key, route=route, method="POST", path="/v1/chat/completions", body=body)


def answer(
    id_: str, attempt: str = "a", key: str = "k", *, sample: str = "", body: str = ""
) -> Answer:
    return Answer(id=id_, key=key, attempt=attempt, sample=sample, body=body or f'"{id_}"')


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "e.jsonl"


def read(file: Path, content: bytes, attempt: str = "a") -> Replay:
    file.write_bytes(content)
    return read_replay(file, attempt)


def ids(file: Path, content: bytes, attempt: str = "a") -> list[str]:
    return list(read(file, content, attempt).answers)


def test_only_what_the_attempt_was_given_counts(file: Path) -> None:
    """Fresh answers and replayed ones, in the order in which it was given them."""
    content = encoded(
        request(),
        answer("1", "lost"),
        answer("2", "a"),
        Given(id="1", attempt="a"),
        answer("3", "other"),
        answer("4", "a"),
        Given(id="4", attempt="other"),
    )
    assert ids(file, content) == ["2", "1", "4"]
    assert ids(file, content, "lost") == ["1"]
    assert ids(file, content, "none") == []


def test_what_did_not_reach_it_does_not_count(file: Path) -> None:
    """Unless it was given again later; then it counts from there."""
    content = encoded(answer("1"), answer("2"), Returned(id="1", attempt="a"))
    assert ids(file, content) == ["2"]
    assert ids(file, content + encoded(Given(id="1", attempt="a"))) == ["2", "1"]
    assert ids(file, content + encoded(Returned(id="2", attempt="other"))) == ["2"]


def test_a_line_that_is_there_twice_is_one(file: Path) -> None:
    """Merged files hold some twice; a later word on an answer does not move it."""
    twice = encoded(request(), answer("1"), answer("2"))
    assert ids(file, twice + twice) == ["1", "2"]


def test_damaged_lines_are_named_and_the_rest_counts(file: Path) -> None:
    """A torn last line is what a crash leaves, and no damage."""
    content = encoded(answer("1")) + b"{torn\n" + encoded(answer("2")) + b'{"kind":"given"'
    found = read(file, content, "a")
    assert found.damaged == (2,)
    assert found.answers == ("1", "2")


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    """As where the eval was run without the gateway."""
    assert read_replay(tmp_path / "none.jsonl", "a").answers == ()


def test_routes_are_those_of_its_answers(file: Path) -> None:
    """Another attempt may have asked others."""
    content = encoded(
        request("k", route="openai"), request("l", route="groq"), answer("1"), answer("2", "b", "l")
    )
    assert read(file, content, "a").routes == {"openai"}


@pytest.mark.parametrize(
    ("answers", "unclear"),
    [
        ([answer("1", body="x"), answer("2", body="y")], 2),
        ([answer("1", body="x"), answer("2", body="x")], 0),
        ([answer("1", sample="e.1"), answer("2", sample="e.2")], 0),
        ([answer("1", sample="e.1"), answer("2")], 1),
        ([answer("1"), answer("2", key="l")], 0),
    ],
)
def test_equal_requests_with_different_answers_are_unclear_without_samples(
    file: Path, answers: list[Answer], unclear: int
) -> None:
    """Nobody can tell which sample is to get which."""
    assert read(file, encoded(*answers), "a").unclear == unclear


def test_a_replay_is_a_file_of_answers_that_nobody_was_given(file: Path, tmp_path: Path) -> None:
    """In the order in which they were given, so that the gateway gives them so."""
    content = encoded(
        request("k"),
        request("unused"),
        answer("1", "lost", body='"one"'),
        answer("2", "a", sample="e.1"),
        Given(id="1", attempt="a"),
        Failed(id="3", status=429, billed=False),
    )
    path = tmp_path / "answers" / "e.jsonl"
    write_replay(read(file, content), file, path)
    with AnswersFile(path) as written:
        found = read_index(written)
        kept = found.kept("k", written.line)
        assert [(each.id, each.key, each.sample) for each in kept] == [
            ("2", "k", "e.1"),
            ("1", "k", ""),
        ]
        assert found.describes("k", written.line)
        assert not found.describes("unused", written.line)
        assert (found.given, found.damaged) == ({}, [])
        assert written.answer(kept[1]).body == '"one"'


def test_a_rerun_says_what_was_not_on_record_and_what_was_left(file: Path, tmp_path: Path) -> None:
    """A request that was made before is told from one that never was."""
    path = tmp_path / "again.jsonl"
    replay = read(file, encoded(request("k"), request("l"), answer("1"), answer("2")), "a")
    write_replay(replay, file, path)
    new = request("new", body={"messages": [{"content": "first"}, {"content": "Why?"}]})
    path.write_bytes(
        path.read_bytes()
        + encoded(
            Given(id="1", attempt="again"),
            request("l"),
            Sent(id="x", key="l", attempt="again"),
            Failed(id="x", status=404),
            new,
            Sent(id="y", key="new", attempt="again", sample="e.7", model="m"),
            Failed(id="y", status=404),
            Sent(id="z", key="new", attempt="an earlier one"),
            Failed(id="z", status=404),
            Given(id="2", attempt="an earlier one"),
        )
    )
    found = read_unmatched(path, "again", replay)
    assert found.left == 1
    assert found.missing == (
        Missing(sample="", request="POST /v1/chat/completions", asked_before=True),
        Missing(sample="e.7", request='POST /v1/chat/completions m "Why?"', asked_before=False),
    )


@pytest.mark.parametrize(
    ("body", "end"),
    [
        ({"messages": [{"role": "user", "content": "Why?"}]}, ' "Why?"'),
        ({"messages": [{"content": [{"type": "text", "text": "Why?"}]}]}, 'text\\":\\"Why?\\"}]"'),
        ({"prompt": "Once"}, ' "Once"'),
        ({"prompt": ["Once", "Twice"]}, ' "Twice"'),
        ({"input": [[1, 2]]}, ' "2"'),
        ({"messages": []}, "completions m"),
        ({}, "completions m"),
        (None, "completions m"),
        ([1], "completions m"),
    ],
)
def test_a_request_is_shown_by_what_it_asks_last(body: object, end: str) -> None:
    """Chats, completions and embeddings have it in different places."""
    assert shown_request(request(body=body), "m").endswith(end)


def test_a_long_request_is_cut() -> None:
    """A line has room for it."""
    shown = shown_request(request(body={"prompt": "x" * 5000}), "m")
    assert len(shown) == LONGEST + 1
    assert shown_request(None, "m") == "m"
