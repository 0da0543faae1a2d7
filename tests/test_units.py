import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import UsageError
from runner.units import (
    LEAST_TMP,
    Budget,
    Rate,
    Upstream,
    parse_budget,
    parse_cpus,
    parse_duration,
    parse_gpus,
    parse_memory,
    parse_pids_limit,
    parse_rate,
    parse_size,
    parse_tmp_limit,
    parse_upstream,
    show_budget,
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
    """A megabyte, because an eval without any log says nothing."""
    assert parse_tmp_limit("1m") == LEAST_TMP
    assert parse_tmp_limit("10g") == 10 * 2**30
    with pytest.raises(UsageError) as caught:
        parse_tmp_limit("1023k")
    assert str(caught.value) == "size `1023k` is too little for an eval's logs; give at least 1m"
    with pytest.raises(UsageError, match="size `lots` is not an amount"):
        parse_tmp_limit("lots")


@pytest.mark.parametrize(("value", "cpus"), [("2", 2.0), (2, 2.0), (".5", 0.5), (0.01, 0.01)])
def test_cpus_may_be_parts_of_one(value: object, cpus: float) -> None:
    """As text from an option, and as a number from a file."""
    assert parse_cpus(value) == cpus


@pytest.mark.parametrize(
    "value", ["", "two", 0, 0.009, -1, True, None, [2], float("inf"), float("nan"), "9" * 309]
)
def test_cpus_that_docker_would_refuse_are_refused(value: object) -> None:
    """The message quotes what was given."""
    with pytest.raises(UsageError) as caught:
        parse_cpus(value)
    assert str(caught.value) == f"`{value}` is not a number of CPUs of at least 0.01"


def test_a_number_of_processes_is_a_whole_one_above_zero() -> None:
    """As text from an option, and as a number from a file."""
    assert (parse_pids_limit("64"), parse_pids_limit(1)) == (64, 1)
    for value in ("", 0, -1, 1.5, True, "many", "9" * 19):
        with pytest.raises(
            UsageError, match=f"^`{value}` is not a number of processes above zero$"
        ):
            parse_pids_limit(value)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("5usd", Budget(5, "usd")),
        ("0.5 USD", Budget(0.5, "usd")),
        (" 0.000001usd ", Budget(1e-6, "usd")),
        ("2000tok", Budget(2000, "tok")),
        ("500ktok", Budget(500_000, "tok")),
        ("2MTok", Budget(2_000_000, "tok")),
        ("2.3mtok", Budget(2_300_000, "tok")),
        ("1gtok", Budget(1_000_000_000, "tok")),
    ],
)
def test_a_budget_is_in_dollars_or_in_tokens(text: str, budget: Budget) -> None:
    """Thousands are powers of 1000, and case does not count."""
    assert parse_budget(text) == budget


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "5$", "$5", "5eur", "usd", "many tok", "2mtoken", "1e3usd", "nanusd", "infusd"),
        *("5 k", "9" * 16 + "usd", "0.1234567usd", "5usd 2mtok", "5,5usd"),
    ],
)
def test_a_budget_without_a_known_unit_is_refused(text: str) -> None:
    """The message quotes it and shows what is one."""
    with pytest.raises(UsageError) as caught:
        parse_budget(text)
    assert str(caught.value) == (f"budget `{text}` is not an amount such as 5usd, 500ktok or 2mtok")


@pytest.mark.parametrize("text", ["0usd", "0mtok", "-5usd", "-2mtok", "0.2tok"])
def test_a_budget_is_above_zero(text: str) -> None:
    """Nothing at all could be sent."""
    with pytest.raises(UsageError) as caught:
        parse_budget(text)
    assert str(caught.value) == f"budget `{text}` must be above zero"


@given(
    st.integers(1, 10**15 - 1).map(lambda amount: Budget(amount, "tok"))
    | st.integers(1, 10**15).map(lambda amount: Budget(amount / 10**6, "usd"))
)
def test_a_budget_is_shown_as_it_is_read(budget: Budget) -> None:
    """Whatever it is."""
    assert parse_budget(show_budget(budget)) == budget


@pytest.mark.parametrize(
    ("budget", "shown"),
    [
        (Budget(5.0, "usd"), "5usd"),
        (Budget(0.25, "usd"), "0.25usd"),
        (Budget(100, "usd"), "100usd"),
        (Budget(2_000_000, "tok"), "2mtok"),
        (Budget(1_500_000, "tok"), "1500ktok"),
        (Budget(1234, "tok"), "1234tok"),
    ],
)
def test_a_budget_is_shown_short(budget: Budget, shown: str) -> None:
    """In the largest unit in which it is whole."""
    assert show_budget(budget) == shown


@pytest.mark.parametrize(
    ("value", "rate"),
    [
        ("100", Rate("", 100)),
        (100, Rate("", 100)),
        ("gpt-4=20", Rate("gpt-4", 20)),
        ("org/a=b:1=20", Rate("org/a=b:1", 20)),
        (" gpt-4 = 20 ", Rate("gpt-4", 20)),
    ],
)
def test_a_rate_is_that_of_all_models_or_of_one(value: object, rate: Rate) -> None:
    """A model's name may have a `=` in it."""
    assert parse_rate(value) == rate


@pytest.mark.parametrize(
    "value", ["", "0", "-1", "1.5", "many", "gpt-4", "gpt-4=", "=100", "gpt-4=0", "m=1k", True]
)
def test_a_rate_that_cannot_be_is_refused(value: object) -> None:
    """The message quotes it."""
    with pytest.raises(UsageError) as caught:
        parse_rate(value)
    assert str(caught.value) == f"rate `{value}` must be a number above zero, or MODEL=NUMBER"


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("groq=https://api.groq.com/openai/v1", ("groq", "https://api.groq.com/openai/v1")),
        ("my-own2=http://[::1]:8000/", ("my-own2", "http://[::1]:8000")),
        ("x=HTTPS://host", ("x", "HTTPS://host")),
    ],
)
def test_an_upstream_has_a_name_and_an_address(text: str, upstream: tuple[str, str]) -> None:
    """Without a `/` at its end."""
    assert parse_upstream(text) == Upstream(*upstream)


@pytest.mark.parametrize(
    "text", ["", "https://host/v1", "=https://h", "Groq=https://h", "a b=https://h", "a-=https://h"]
)
def test_an_upstream_without_a_name_is_refused(text: str) -> None:
    """The message shows one that has it."""
    with pytest.raises(UsageError) as caught:
        parse_upstream(text)
    assert str(caught.value) == (
        "an upstream is NAME=URL, with small letters, digits and hyphens in the name; "
        "give it like `groq=https://api.groq.com/openai/v1`"
    )


@pytest.mark.parametrize(
    "address",
    [
        *("", "host", "host:80/v1", "ftp://host", "https://", "http://:80", "http://h:x"),
        *("http://h:0", "http://h:99999", "http://[::1", "http://h/a b", "http://h/a\n"),
    ],
)
def test_an_upstream_whose_address_is_none_is_refused(address: str) -> None:
    """The message has the name alone."""
    with pytest.raises(UsageError) as caught:
        parse_upstream(f"groq={address}")
    assert str(caught.value) == (
        "the address of the upstream `groq` is not a URL; begin it with https:// or http:// and a "
        "host"
    )


@pytest.mark.parametrize(
    "address",
    [
        "https://me:secret@host/v1",
        "https://secret@host",
        "https://h/?key=secret",
        "http://h/#secret",
    ],
)
def test_an_address_with_a_secret_in_it_is_refused_and_not_repeated(address: str) -> None:
    """The command line is seen by every user of the host."""
    with pytest.raises(UsageError) as caught:
        parse_upstream(f"my-own={address}")
    assert str(caught.value) == (
        "the address of the upstream `my-own` has more than a host and a path in it; "
        "leave the rest out, and export the key as MY_OWN_API_KEY"
    )
