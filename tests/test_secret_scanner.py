import base64
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus, urlencode

import pytest

from runner.secrets import FoundSecret, Scanner

KEY = 'a-very-secret"value'

# Made up, in the providers' shapes; in pieces, so that nothing looks for them here.
SHAPES = {
    "openai project": "sk-" + "proj-" + "aB3" * 10,
    "openai legacy": "sk-" + "aB3c" * 12,
    "openai of old": "sk-" + "a" * 20 + "T3" + "BlbkFJ" + "b" * 20,
    "anthropic": "sk-" + "ant-api03-" + "aB3_" * 8,
    "openrouter": "sk-" + "or-v1-" + "0123456789abcdef" * 4,
    "hugging face": "hf" + "_" + "aB3dE" * 7,
    "google": "AI" + "za" + "aB3dE" * 7,
    "aws": "AK" + "IA" + "ABCDEFGHIJKLMNOP",
    "github": "gh" + "p_" + "aB3dE6" * 6,
    "github fine-grained": "github" + "_pat_" + "aB3dE6" * 6,
    "gitlab": "gl" + "pat-" + "aB3dE6aB3dE6aB3dE6aB",
    "groq": "gs" + "k_" + "aB3dE" * 10,
    "replicate": "r8" + "_" + "aB3dE" * 8,
    "slack": "xo" + "xb-" + "1234567890-1234567890-abcdefabcdef",
    "npm": "np" + "m_" + "aB3dE6" * 6,
    "private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_key_of_a_known_shape_is_found(shape: str) -> None:
    """Also where it stands in a log's JSON."""
    content = b"first\n" + json.dumps({"prompt": f"use {shape} here"}).encode() + b"\n"
    finding = Scanner({}).find(content)
    assert finding is not None
    assert finding.line == 2
    assert shape not in finding.what


@pytest.mark.parametrize("form", [KEY, json.dumps(KEY), json.dumps([{"a": KEY}])])
def test_the_value_of_a_variable_is_found(form: str) -> None:
    """As it is, and as JSON has it; the finding has the name, never the value."""
    finding = Scanner({"MY_KEY": KEY}).find(f"1\n2\n{form}\n".encode())
    assert finding == FoundSecret(line=3, what="the value of MY_KEY")


@pytest.mark.parametrize(
    "form",
    [
        json.dumps(json.dumps({"a": KEY})),
        quote(KEY),
        quote_plus(KEY),
        quote("ü" + KEY),
        urlencode({"key": KEY}).replace("%22", "%22".lower()),
        json.dumps(json.dumps({"a": "ü" + KEY}, ensure_ascii=False), ensure_ascii=False),
    ],
)
def test_a_value_that_was_escaped_is_found(form: str) -> None:
    """In JSON within JSON, and in an address."""
    assert Scanner({"MY_KEY": KEY}).find(f"say {form} here".encode()) is not None


@pytest.mark.parametrize("form", ["a%2fb%3cc-secret", "a%2Fb%3Cc-secret", "a/b%3Cc-secret"])
def test_a_quoted_value_is_found_in_either_case(form: str) -> None:
    """Clients write the digits as they like, and a slash either way."""
    assert Scanner({"MY_KEY": "a/b<c-secret"}).find(form.encode()) is not None


@pytest.mark.parametrize("before", ["", "u", "me", "who", "Bearer "])
@pytest.mark.parametrize("after", ["", "1", "12", "123"])
@pytest.mark.parametrize("value", ["hunter2-hunter2", "eight888", "a?b>c~~secret~~"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_value_in_base64_is_found(
    before: str, after: str, value: str, encode: Callable[[bytes], bytes]
) -> None:
    """Wherever it stands in what was encoded, as in a header with a name and a password."""
    content = b"Basic " + encode(f"{before}{value}{after}".encode()) + b"\n"
    assert Scanner({"MY_KEY": value}).find(content) is not None


@pytest.mark.parametrize(
    "text",
    [
        "class sk-estimator-doc-link-name-that-is-rather-long",
        "the answer is 42, see https://example.org/a/b?c=d",
        "task-12345678901234567890123456789012345678901234567890",
        "sha256:1e923ddc282d9f24988d6c3fe4b8c4df30612a504064239e145c0e587716840a",
        "261121031340CVHG3PA4_dummy_demo-json.dev.v0.jsonl",
    ],
)
def test_what_logs_are_full_of_is_no_secret(text: str) -> None:
    """A false alarm would keep a log from the branch."""
    assert (
        Scanner({"EVALS_THREADS": "12345678", "OPENAI_BASE_URL": text}).find(text.encode()) is None
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_API_KEY", "short"),
        ("OPENAI_API_KEY", "not-needed-by-dummy"),
        ("HTTP_PROXY", "http://proxy:3128"),
        ("OPENAI_BASE_URL", "http://localhost:8000/v1"),
        ("AZURE_OPENAI_ENDPOINT", "https://me.example.org/?api-version=2024-05-01-preview"),
        ("EVALS_THREADS", "12345678"),
        ("EVALS_MODEL", "gpt-4-turbo-2024"),
        ("AWS_REGION", "eu-central-1"),
        ("EVALS_TOKENIZER", "cl100k_base"),
        ("EVALS_KEYWORDS", "these,and,those"),
    ],
)
def test_a_value_that_hides_nothing_is_not_looked_for(name: str, value: str) -> None:
    """A placeholder, an address or a model stands in every log."""
    assert Scanner({name: value}).find(f"x {value} y".encode()) is None


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("OPENAI_BASE_URL", "https://u:pa55word-zz@h/", "https://u:pa55word-zz@h/"),
        ("OPENAI_BASE_URL", "https://u:pa55word-zz@h/", "as u with pa55word-zz"),
        ("OPENAI_BASE_URL", "https://u:pa55%2Fword@h/", "as u with pa55/word"),
        ("OPENAI_BASE_URL", "https://0123456789abcdef01@h/", "as 0123456789abcdef01"),
        ("DATABASE_URL", "postgres://u:pw@db/x", "postgres://u:pw@db/x"),
        ("EVALS_API_KEY", "a-very-secret-value", "a-very-secret-value"),
        ("EVALS_TOKEN_URL", "https://h/a-secret-path", "https://h/a-secret-path"),
        ("EVALS_BACKENDS", '{"a": "https://u:pa55word-zz@h"}', "pa55word-zz"),
        ("BLOB_ENDPOINT", "https://h/c?sv=1&sig=abc%2Bdefgh", "https://h/c?sv=1&sig=abc%2Bdefgh"),
        ("BLOB_ENDPOINT", "https://h/c?sv=1&sig=abc%2Bdefgh", "sig: abc+defgh"),
        ("MY_VALUE", "a-very-secret-value\n", "a-very-secret-value,"),
    ],
)
def test_a_name_does_not_make_a_secret_public(name: str, value: str, text: str) -> None:
    """What an address has besides the host is secret, and so is what is called a key."""
    finding = Scanner({name: value}).find(text.encode())
    assert finding == FoundSecret(line=1, what=f"the value of {name}")


@pytest.mark.parametrize("word", ["postgres", "password", "changeme"])
def test_a_usual_password_is_not_looked_for_alone(word: str) -> None:
    """Logs have such words; the address is looked for all the same."""
    scanner = Scanner({"DATABASE_URL": f"postgres://me:{word}@db/x"})
    assert scanner.find(f"x {word} y".encode()) is None
    assert scanner.find(f"postgres://me:{word}@db/x".encode()) is not None


def test_an_address_with_a_password_is_looked_for() -> None:
    """Proxies have names and passwords in their variables."""
    value = "http://me:secret@proxy:3128"
    assert Scanner({"HTTP_PROXY": value}).find(value.encode()) is not None


@pytest.mark.parametrize("before", [0, 2**20 - 5, 3 * 2**20 + 1])
@pytest.mark.parametrize("newline", [b"\n", b" "])
def test_a_secret_is_found_wherever_it_stands_in_a_large_file(
    tmp_path: Path, before: int, newline: bytes
) -> None:
    """Across the pieces in which it is read, too, and in a line of megabytes."""
    path = tmp_path / "log"
    filler = (b"x" * 99 + newline) * (before // 100)
    path.write_bytes(filler + b"a-very-secret-value" + b"y" * 3_000_000 + b"\n")
    finding = Scanner({"MY_KEY": "a-very-secret-value"}).find_in(path)
    assert finding is not None
    assert finding.line == filler.count(b"\n") + 1


@pytest.mark.parametrize("before", [0, 1, 2**20 - 60, 2**20 - 25, 2**20 - 3, 3 * 2**20 - 40])
@pytest.mark.parametrize("line", [80, 3_000_000])
def test_a_value_with_newlines_is_found_wherever_it_stands(
    tmp_path: Path, before: int, line: int
) -> None:
    """Also if two pieces of the file have it, and the number is that of its first line."""
    value = "first line of it\nsecond line of it\nthird line of it"
    path = tmp_path / "log"
    filler = (b"x" * (line - 1) + b"\n") * (before // line) + b"x" * (before % line)
    path.write_bytes(filler + value.encode() + b"\ny" * 2_000_000)
    finding = Scanner({"MY_KEY": value}).find_in(path)
    assert finding == FoundSecret(line=filler.count(b"\n") + 1, what="the value of MY_KEY")


def test_a_long_value_is_found_across_pieces(tmp_path: Path) -> None:
    """Longer than what is usually looked at twice."""
    value = "\n".join(f"line {number} of many" for number in range(5000))
    path = tmp_path / "log"
    path.write_bytes(b"x" * (2**20 - 1000) + value.encode() + b"\n" * 2**20)
    assert Scanner({"MY_KEY": value}).find_in(path) is not None


def test_the_seams_of_a_large_file_raise_no_false_alarm(tmp_path: Path) -> None:
    """A word that is cut there would look like a key that begins there."""
    path = tmp_path / "log"
    line = b"task-" + b"1" * 50 + b"\n"
    path.write_bytes(line * (3 * 2**20 // len(line)))
    assert Scanner({"MY_KEY": "a-very-secret-value"}).find_in(path) is None
