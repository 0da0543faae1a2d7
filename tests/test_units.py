import pytest

from runner.errors import UsageError
from runner.units import (
    LEAST_TMP,
    parse_cpus,
    parse_duration,
    parse_gpus,
    parse_memory,
    parse_pids_limit,
    parse_size,
    parse_tmp_limit,
)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("512m", 512 * 1024**2),
        ("4g", 4 * 1024**3),
        ("4G", 4 * 1024**3),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("6144kb", 6 * 1024**2),
        ("8000000", 8_000_000),
        (8_000_000, 8_000_000),
        ("8000000b", 8_000_000),
    ],
)
def test_memory_is_read_as_docker_reads_it(text: str | int, amount: int) -> None:
    """Units are powers of 1024, in either case, with or without `b`."""
    assert parse_memory(text) == amount


@pytest.mark.parametrize(
    "text", ["", "lots", "4x", "-1g", "1e9", "g", "0", "5m", 0.5, True, "6 mib b"]
)
def test_memory_that_docker_would_refuse_is_refused(text: str | float) -> None:
    """What is no amount, or below 6 MB, is a usage error that quotes it."""
    with pytest.raises(UsageError, match=rf"memory `{text}`"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("2d", 172800),
        ("45", 45),
        (0.5, 0.5),
    ],
)
def test_durations_are_read(text: str | float, seconds: float) -> None:
    """A duration is a number of seconds, or numbers with units."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-5", "1x", "h", "1h1h", "soon", "inf", "nan", True, "9" * 309]
)
def test_a_duration_that_cannot_be_is_refused(text: str) -> None:
    """What is no duration, or none above zero, is a usage error that quotes it."""
    with pytest.raises(UsageError, match=rf"duration `{text}`"):
        parse_duration(text)


def test_a_size_is_refused_under_its_name() -> None:
    """A size, unless it is said of what."""
    with pytest.raises(UsageError, match=r"^size `lots` is not an amount such as 512m or 4g$"):
        parse_size("lots")


@pytest.mark.parametrize("text", ["all", "1", "12", "device=0", "device=0,1", "device=GPU-a1:2"])
def test_gpus_are_taken_in_dockers_form(text: str) -> None:
    """As `docker run --gpus` takes them."""
    assert parse_gpus(text) == text


@pytest.mark.parametrize("text", ["", "0", "some", "device=", "ALL", "device=a b"])
def test_gpus_in_another_form_are_refused(text: str) -> None:
    """The message quotes it and says the forms."""
    with pytest.raises(UsageError) as caught:
        parse_gpus(text)
    assert str(caught.value) == f"GPUs `{text}` must be `all`, a number, or `device=ID,...`"


def test_an_evals_tmp_has_room_for_its_logs_at_least() -> None:
    """A megabyte, for an eval without any log says nothing."""
    assert parse_tmp_limit("1m") == LEAST_TMP
    assert parse_tmp_limit("10g") == 10 * 2**30
    with pytest.raises(UsageError) as caught:
        parse_tmp_limit("1023k")
    assert str(caught.value) == "size `1023k` is too little for an eval's logs; give at least 1m"
    with pytest.raises(UsageError, match="size `lots` is not an amount"):
        parse_tmp_limit("lots")


@pytest.mark.parametrize(("value", "cpus"), [("2", 2.0), (2, 2.0), ("0.5", 0.5), (0.01, 0.01)])
def test_cpus_may_be_parts_of_one(value: object, cpus: float) -> None:
    """As text from an option, and as a number from a file."""
    assert parse_cpus(value) == cpus


@pytest.mark.parametrize(
    "value", ["", "two", 0, 0.009, -1, True, None, [2], float("inf"), "9" * 309]
)
def test_cpus_that_docker_would_refuse_are_refused(value: object) -> None:
    """The message quotes what was given."""
    with pytest.raises(UsageError) as caught:
        parse_cpus(value)
    assert str(caught.value) == f"`{value}` is not a number of CPUs such as 2 or 0.5"


def test_a_number_of_processes_is_a_whole_one_above_zero() -> None:
    """As text from an option, and as a number from a file."""
    assert (parse_pids_limit("64"), parse_pids_limit(1)) == (64, 1)
    for value in ("", 0, -1, 1.5, True, "many", "9" * 19):
        with pytest.raises(
            UsageError, match=f"^`{value}` is not a number of processes above zero$"
        ):
            parse_pids_limit(value)
