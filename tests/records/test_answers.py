import json
import tempfile
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import EnvironmentFault
from runner.records.answers import (
    Answer,
    AnswersFile,
    AnswersLine,
    Failed,
    Given,
    Request,
    Reserved,
    Returned,
    Sent,
    Usage,
    damage,
)
from runner.records.answers_index import index_of, read_index
from runner.records.spending import Sums, Totals, read_sums
from tests.answered import Answered, kept_in

LINES: list[AnswersLine] = [
    Request(key="k", route="openai", method="POST", path="/v1/chat/completions", body={"a": [1]}),
    Sent(id="1", key="k", attempt="a", sample="s.1", reserved=Reserved(tokens=9, usd=0.5)),
    Answer(id="1", key="k", attempt="a", body='{"b"}\n', usage=Usage(input=3, output=4), usd=0.25),
    Sent(id="2", key="k", attempt="a"),
    Failed(id="2", status=429, billed=False),
    Given(id="1", attempt="b"),
]


def content(*lines: AnswersLine) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def totals(*lines: AnswersLine) -> Totals:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content(*lines))
        file.flush()
        return read_sums(Path(file.name)).totals


def damaged_in(path: Path) -> list[str]:
    """Messages about a file's lines."""
    with path.open("rb") as file:
        found = index_of(file)
    return damage(str(path), found.damaged, found.newer)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


@pytest.mark.parametrize("line", LINES, ids=lambda line: type(line).__name__)
def test_each_line_says_kind_and_version(line: AnswersLine, path: Path) -> None:
    """Whatever else is the default is left out."""
    with AnswersFile(path) as file:
        file.write(line)
    found = json.loads(path.read_bytes())
    assert (found["kind"], found["version"]) == (type(line).__name__.lower(), 1)
    assert not {"model", "headers"} & found.keys()
    assert msgspec.json.decode(path.read_bytes(), type=type(line)) == line


def test_what_was_written_is_found_again(path: Path) -> None:
    """Where each answer lies, who was given it, and what it adds up to."""
    with AnswersFile(path) as file:
        places = [file.write(line) for line in LINES]
        found = read_index(file)
        (kept,) = found.kept("k", file.line)
        assert file.answer(kept) == LINES[2]
        assert found.describes("k", file.line)
        assert not found.describes("l", file.line)
    assert (kept.start, kept.size) == places[2]
    assert [found.given_to(attempt) for attempt in "abc"] == [{"1"}, {"1"}, set()]
    assert found.damaged == []
    assert read_sums(path).totals == Totals(
        requests=2,
        answers=1,
        failed=1,
        replayed=1,
        usage=Usage(input=3, output=4),
        usd=0.25,
        saved=0.25,
        saved_tokens=7,
    )


def test_a_file_that_is_not_there_says_nothing(path: Path) -> None:
    """It is not made, either."""
    assert read_sums(path) == Sums()
    assert not path.exists()


def test_a_folder_in_its_place_is_an_error(path: Path) -> None:
    """It is named."""
    path.mkdir()
    with pytest.raises(EnvironmentFault, match=r"answers\.jsonl: it is a folder"):
        read_sums(path)


def test_damaged_lines_are_named_and_the_rest_counts(path: Path) -> None:
    """Also what no JSON is, what no object is, and a field of another kind."""
    damaged = [b"{", b'["answer"]', b'{"kind":"answer","id":7}', b"\xff"]
    path.write_bytes(b"\n".join(damaged) + b"\n\n" + content(*LINES))
    assert damaged_in(path) == [
        f"{path}: line {number} cannot be read and is left as it is" for number in (1, 2, 3, 4)
    ]
    sums = read_sums(path)
    assert (sums.totals, sums.damaged) == (totals(*LINES), damaged_in(path))


def test_a_torn_last_line_is_not_damaged(path: Path) -> None:
    """A crash leaves one, or a gateway is writing it; a whole one counts."""
    whole = content(*LINES)
    path.write_bytes(whole[:-9])
    assert damaged_in(path) == []
    assert read_sums(path).totals.replayed == 0
    path.write_bytes(whole[:-1])
    assert read_sums(path).totals.replayed == 1


def test_zero_bytes_around_a_line_do_no_harm(path: Path) -> None:
    """A power loss leaves them; the answer is read from behind them."""
    path.write_bytes(b"\0\0\0\n\0\0 " + content(LINES[2]))
    assert damaged_in(path) == []
    (kept,) = kept_in(path.read_bytes())
    with AnswersFile(path) as file:
        assert file.answer(kept) == LINES[2]


def test_what_a_newer_version_wrote_counts_as_far_as_it_is_understood(path: Path) -> None:
    """Kinds and fields that are not known are passed over, and the lines are named."""
    path.write_bytes(
        b'{"kind":"sold","version":2,"id":"1"}\n'
        b'{"kind":"answer","version":2,"id":"1","key":"k","colour":"red","usd":1.5}\n'
    )
    assert read_sums(path).totals == Totals(requests=1, answers=1, usd=1.5)
    (message,) = damaged_in(path)
    assert message.startswith(f"{path}: written by a newer evalset: line 1, 2; ")


SENT = Sent(id="1", key="k", attempt="a", reserved=Reserved(tokens=9, usd=0.5))
PAID = Answer(id="1", key="k", attempt="a", usage=Usage(input=1, output=2), usd=0.25)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([SENT], Totals(requests=1, perhaps_paid=1, reserved=SENT.reserved)),
        (
            [SENT, Failed(id="1", billed=None)],
            Totals(requests=1, perhaps_paid=1, reserved=SENT.reserved),
        ),
        ([SENT, Failed(id="1", billed=False)], Totals(requests=1, failed=1)),
        ([SENT, Answer(id="1", key="k", status=404)], Totals(requests=1, failed=1)),
        (
            [Sent(id="1", key="k", attempt="a"), Answer(id="1", key="k", usage=Usage(output=5))],
            Totals(requests=1, answers=1, usage=Usage(output=5), unpriced=5),
        ),
        ([Given(id="1", attempt="a")], Totals()),
        (
            [PAID, Given(id="1", attempt="b"), Returned(id="1", attempt="b")],
            totals(PAID),
        ),
    ],
)
def test_what_a_request_came_to(lines: list[AnswersLine], expected: Totals) -> None:
    """An answer, nothing that costs, or nobody knows."""
    assert totals(*lines) == expected


@given(lines=st.lists(st.sampled_from([*LINES, SENT, PAID, Failed(id="1", billed=None)])))
def test_each_request_is_of_one_sort(lines: list[AnswersLine]) -> None:
    """Whatever lines a merge has put together, and however often."""
    once = totals(*lines)
    assert once.requests == once.answers + once.failed + once.perhaps_paid
    twice = totals(*lines, *lines)
    assert (twice.requests, twice.answers, twice.usd) == (once.requests, once.answers, once.usd)


@given(lines=st.permutations([LINES[0], LINES[1], LINES[2], LINES[5]]))
def test_the_order_of_lines_does_not_count(lines: list[AnswersLine]) -> None:
    """Files that are merged are put together in any."""
    assert totals(*lines) == totals(LINES[0], LINES[1], LINES[2], LINES[5])


def test_totals_add_up() -> None:
    """Field by field; what is not known adds nothing."""
    whole = totals(*LINES)
    assert whole + Totals() == whole
    both = whole + whole
    assert (both.requests, both.replayed, both.usd, both.saved_tokens) == (4, 2, 0.5, 14)
    assert (Totals(usd=None) + Totals(usd=None)).usd is None


def test_a_visitor_sees_each_answer_that_was_paid_for(tmp_path: Path) -> None:
    """Not those that are errors, and none twice."""
    one = Answered(tmp_path, ["oaieval", "m", "e"], model="m", eval_set="s")
    one.paid(2, seconds=0.25)
    one.refused()
    one.path.write_bytes(one.path.read_bytes() * 2)
    seen: list[tuple[str, float]] = []
    read_sums(one.path, lambda line: seen.append((line.model, line.seconds)))
    assert seen == [("m", 0.25)] * 2


def test_many_answers_are_read_in_hardly_more_time_than_their_json_takes(path: Path) -> None:
    """Decoding is most of it, because `status` reads all of them each time."""
    body = json.dumps({"choices": [{"message": {"content": 'It is "so". ' * 60}}]})
    lines = (
        line
        for number in range(10_000)
        for line in (
            Sent(id=f"{number:016x}", key=f"{number:064x}", attempt="a", model="m"),
            Answer(
                id=f"{number:016x}", key=f"{number:064x}", body=body, usage=Usage(input=1), usd=0.1
            ),
        )
    )
    path.write_bytes(content(*lines))

    def decode() -> None:
        for line in path.read_bytes().splitlines():
            json.loads(line)

    def took(what: object) -> float:
        assert callable(what)
        times = []
        for _ in range(3):
            began = time.process_time()
            what()
            times.append(time.process_time() - began)
        return min(times)

    assert read_sums(path).totals.answers == 10_000
    assert took(lambda: read_sums(path)) < 2 * took(decode)
