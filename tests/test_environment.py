from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.host import PLACEHOLDER_KEY, from_host, read_env_file, variables_for_containers


def given(
    environ: dict[str, str],
    *names: str,
    env_file: Path | None = None,
    model: str = "gpt-4",
) -> dict[str, str]:
    return variables_for_containers(environ, names=names, env_file=env_file, model=model)


def test_the_usual_names_go_in_where_they_are_set() -> None:
    """Providers' keys, oaieval's own settings and proxies; nothing else of the host's."""
    usual = {"OPENAI_API_KEY": "k", "EVALS_THREADS": "3", "HTTPS_PROXY": "p", "HF_TOKEN": "t"}
    assert given({**usual, "HOME": "/root", "AWS_SECRET_ACCESS_KEY": "s"}) == usual


def test_a_name_that_is_given_goes_in() -> None:
    """With the host's value, an empty one included."""
    assert given({"MINE": "1", "EMPTY": "", "OTHER": "2"}, "MINE", "EMPTY") == {
        "MINE": "1",
        "EMPTY": "",
    }


def test_the_built_in_model_gets_a_key_that_is_none() -> None:
    """Openai/evals asks for one at import; a real one is left alone."""
    assert given({}, model="dummy") == {"OPENAI_API_KEY": PLACEHOLDER_KEY}
    assert given({"OPENAI_API_KEY": "k"}, model="dummy") == {"OPENAI_API_KEY": "k"}
    assert given({}, model="gpt-4") == {}


def test_names_win_over_the_file_and_the_file_over_the_usual(tmp_path: Path) -> None:
    """The more particular, the stronger."""
    path = tmp_path / "env"
    path.write_text("OPENAI_API_KEY=file\nA=file\nB=file\n")
    found = given({"OPENAI_API_KEY": "host", "A": "host"}, "A", env_file=path)
    assert found == {"OPENAI_API_KEY": "file", "A": "host", "B": "file"}


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"", {}),
        (b"# A=1\n\n   # B=2\n", {}),
        (b"A=1\r\nB=2", {"A": "1", "B": "2"}),
        (b"A=\nB= x = y \n", {"A": "", "B": " x = y "}),
        (b'A="quoted"\n', {"A": '"quoted"'}),
        (b"HERE\n", {"HERE": "host"}),
        (b"\xef\xbb\xbfA=1\n", {"A": "1"}),
        ("A=ä\u2028b\x0bc\n".encode(), {"A": "ä\u2028b\x0bc"}),
    ],
)
def test_a_file_is_read_as_docker_reads_it(
    tmp_path: Path, content: bytes, values: dict[str, str]
) -> None:
    """Values are taken as they stand, quotes included; a name alone has the host's value."""
    path = tmp_path / "env"
    path.write_bytes(content)
    assert read_env_file(path, {"HERE": "host"}) == values


@pytest.mark.parametrize("name", ["A=secret", "A="])
def test_a_value_is_no_name(name: str) -> None:
    """The message has the name and not the value."""
    with pytest.raises(UsageError, match=r"not A=\.\.\.: a value on the command line") as caught:
        from_host({"A": "1"}, name)
    assert "secret" not in str(caught.value)
