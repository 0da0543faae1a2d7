"""What evals leave behind, all in one run; and what each of it must not lead to."""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from runner.model import Attempt, Result
from tests.hostile.conftest import Hostile, tidied

pytestmark = pytest.mark.docker

LEFT = ("links", "linked", "piped", "names", "deep", "many", "crowd", "sparse", "forge")


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, hostile_image: str
) -> Iterator[Hostile]:
    """Where all that leave something have done so, and one has failed, and one done well."""
    with tidied(Hostile(tmp_path_factory.mktemp("left"), cache, hostile_image)) as found:
        found.attack("innocent", *LEFT, "victim")
        yield found


@pytest.fixture(scope="module")
def by_name(place: Hostile) -> Mapping[str, Attempt]:
    """The one record of each eval."""
    records = place.records()
    assert len({record.eval for record in records}) == len(records)
    return {record.eval: record for record in records}


def logs(record: Attempt) -> list[str]:
    """Names of the logs that were taken, without the ones that oaieval would have left."""
    return [Path(log).name for log in record.logs if not log.endswith(f"_m_{record.eval}.jsonl")]


def test_nothing_that_is_left_costs_the_outcome(
    place: Hostile, by_name: Mapping[str, Attempt]
) -> None:
    """All have ended well and are on record so; the run reached the last one, and left nothing."""
    assert set(by_name) == {"innocent", *LEFT, "victim"}
    for name in (*LEFT, "victim"):
        assert by_name[name].result is Result.SUCCESS
    assert sorted(place.finished()) == sorted([*LEFT, "victim"])
    assert place.leftovers() == []


def test_links_pipes_sockets_and_second_names_stay_out(
    by_name: Mapping[str, Attempt],
) -> None:
    """Nothing that they lead to is read, and nothing waits for a pipe; plain files are taken."""
    record = by_name["links"]
    assert logs(record) == ["setuid.jsonl"]
    assert record.final_report == {"left": 11}
    assert len(record.warnings) == 10
    assert all("was left out" in warning for warning in record.warnings)


def test_among_the_logs_are_plain_files_and_no_rights(place: Hostile) -> None:
    """Whatever the eval made of theirs."""
    found = [path for path in place.layout.evallogs.rglob("*") if not path.is_dir()]
    kinds = {stat.S_IFMT(path.lstat().st_mode) for path in found}
    assert kinds == {stat.S_IFREG}
    assert all(path.lstat().st_mode & 0o7133 == 0 for path in found)


@pytest.mark.parametrize("name", ["linked", "piped"])
def test_what_is_in_the_place_of_the_folder_is_not_entered(
    by_name: Mapping[str, Attempt], name: str
) -> None:
    """The eval has left no logs then."""
    assert by_name[name].logs == ()
    assert by_name[name].warnings == ("its log has no final_report",)


def test_no_name_leads_elsewhere_or_moves_a_terminal(
    place: Hostile, by_name: Mapping[str, Attempt]
) -> None:
    """Names that can be printed are taken as they are; the others are left out, and are named."""
    record = by_name["names"]
    taken = logs(record)
    assert "..jsonl" in taken
    assert "..." in taken
    assert "x" * 255 in taken
    assert len(taken) == 10 - 1
    assert len(record.warnings) == 7
    assert all(text.isprintable() for text in (*record.logs, *record.warnings))
    for log in record.logs:
        path = place.progress / log
        assert path.is_file()
        assert path.parent == place.layout.evallogs


def test_a_tree_of_any_depth_goes(place: Hostile, by_name: Mapping[str, Attempt]) -> None:
    """20,000 folders inside one another, closed ones among them, and some among the logs."""
    record = by_name["deep"]
    assert record.final_report == {"deep": True}
    assert "evallogs: folders more than 8 deep were left out" in record.warnings
    assert not place.progress.joinpath(".attempts").exists()


def test_files_without_number_go(by_name: Mapping[str, Attempt]) -> None:
    """100,000 of them in one folder."""
    report = by_name["many"].final_report
    assert report is not None
    assert report["many"] > 100_000


def test_a_crowd_among_the_logs_makes_no_long_record(by_name: Mapping[str, Attempt]) -> None:
    """So much is looked at, and so much is said of it."""
    record = by_name["crowd"]
    assert len(record.warnings) <= 22
    assert "more were left out" in " ".join(record.warnings)


def test_a_log_that_is_a_hole_is_left_out(by_name: Mapping[str, Attempt]) -> None:
    """Nobody reads a terabyte of nothing, and no copy of it fills a disk; the other log counts."""
    record = by_name["sparse"]
    assert record.final_report is not None
    assert record.final_report["size"] > 2**30
    (warning,) = record.warnings
    assert f"says to have {record.final_report['size']} bytes, and hardly any are there" in warning


def test_no_success_of_another_eval_can_be_forged(
    place: Hostile, by_name: Mapping[str, Attempt]
) -> None:
    """Planted files and printed lines change no record: who failed has failed."""
    record = by_name["innocent"]
    assert record.result is Result.FAILURE
    assert (record.logs, record.final_report) == ((), None)
    assert record.console_log
    assert (place.progress / record.console_log).read_text() == "I failed\n"
    assert "innocent" not in place.finished()
    assert "forged" not in {each.id for each in place.records()}
    ended = place.ask("status", "m", "s", "--json")
    assert '"eval":"innocent","state":"failed"' in ended.stdout
    assert place.run("--dry-run").stdout.count("innocent") == 1


def test_what_was_planted_lies_among_the_logs_and_nowhere_else(place: Hostile) -> None:
    """The records' folder has the records, and nothing that an eval has made."""
    found = {path.name for path in place.layout.progress.parent.iterdir()}
    assert found == {f"m.s.{end}" for end in ("progress.txt", "attempts.jsonl", "run.json", "lock")}
    assert sorted(path.name for path in place.progress.iterdir()) == ["evallogs", "oaievalset"]
