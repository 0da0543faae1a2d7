import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from runner.secrets import encodings

VALUE = 'ü a/b<"c'


def test_a_value_has_the_forms_of_json_within_json() -> None:
    """Of either kind, because JSON may have letters as they are or as numbers."""
    found = encodings(VALUE)
    for ascii_only in (True, False):
        once = json.dumps(VALUE, ensure_ascii=ascii_only)[1:-1]
        twice = json.dumps(once, ensure_ascii=ascii_only)[1:-1]
        assert {VALUE.encode(), once.encode(), twice.encode()} <= found
        assert not {b"null", once[1:].encode(), twice[1:].encode(), once[:-1].encode()} & found


def test_a_value_has_the_forms_of_an_address() -> None:
    """With a slash and a blank either way, and digits in either case."""
    found = encodings(VALUE)
    for form in (quote(VALUE), quote(VALUE, safe=""), quote_plus(VALUE)):
        assert form.encode() in found
        for digits in ("%C3", "%BC", "%2F", "%3C"):
            form = form.replace(digits, digits.lower())  # noqa: PLW2901 - each in turn
        assert form.encode() in found


@pytest.mark.parametrize("before", ["", "u", "me", "who"])
@pytest.mark.parametrize("after", ["", "1", "12", "123"])
@pytest.mark.parametrize("value", ["eight888", "nine99999", "ten1010101", "a?b>c~~secret~~"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_value_has_the_form_that_it_has_within_base64(
    before: str, after: str, value: str, encode: Callable[[bytes], bytes]
) -> None:
    """Wherever it stands in what was encoded, and one that no other value of its kind has."""
    content = encode(f"{before}{value}{after}".encode())
    (form,) = {form for form in encodings(value) if form in content}
    other = value[:-1] + chr(ord(value[-1]) ^ 1)
    assert form not in encode(f"{before}{other}{after}".encode()) or len(form) * 6 // 8 < len(value)


def test_a_value_that_is_no_text_has_its_bytes() -> None:
    """A variable may hold any; what cannot be encoded stands for them."""
    assert {b"pass\xffword", b"pass%FFword", b"pass%ffword"} <= encodings("pass\udcffword")


def test_a_short_piece_of_base64_is_no_form() -> None:
    """It could stand in a log by chance; nine letters could, ten hardly."""
    assert b"c2VjcmV0OF" in encodings("secret8X")
    assert not [form for form in encodings("secret8") if form != b"secret8" and len(form) < 10]
