import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

# Shorter pieces of base64 could stand in a log by chance.
_LEAST_BASE64 = 10


def forms(value: str) -> set[bytes]:
    """What a value may look like in a log: as it is, escaped, or encoded."""
    raw = value.encode(errors="surrogateescape")
    return {
        *(form.encode(errors="surrogateescape") for form in _escaped(value)),
        *(form.encode() for form in _quoted(raw)),
        *(form for form in _base64(raw) if len(form) >= _LEAST_BASE64),
    }


def _escaped(value: str) -> Iterator[str]:
    """In a line of JSON, and in a text of JSON that such a line has."""
    yield value
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]


def _quoted(raw: bytes) -> Iterator[str]:
    """In an address."""
    for form in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield form
        yield re.sub("%..", lambda match: match[0].lower(), form)


def _base64(raw: bytes) -> Iterator[bytes]:
    """In a longer text that was encoded, such as a header: without what its neighbours change."""
    for before in range(3):
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(bytes(before) + raw)[first:last]
