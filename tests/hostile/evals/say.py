"""Say what hurts who reads or shows it."""

import base64
import json
import os
import pathlib
import sys
import time

from .tell import log, note, report

ESCAPES = (
    "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m\x9b31m\x1bP+q\x1b\\ "
    "\x08\x7f\u202e \x1b]52;c;eA==\x07"
)
COMMANDS = (
    "::error::owned",
    "::set-output name=a::owned",
    "::add-mask::owned",
    "::stop-commands::owned",
    "  ::warning::owned",
    "##[error]owned",
    "\r::notice::owned",
    "\u200b::debug::owned",
)
MARKUP = (
    "<script>alert('owned')</script>",
    "<img src=x onerror=owned>",
    "[owned](javascript:owned) ![owned](https://owned.example/x.png) https://owned.example @owned",
    "]]></failure><testcase name='owned'/>&owned; \0 \ufffe",
    "``` ` | owned | **owned**\n# owned\n\n* owned",
)
EVERYTHING = "\n".join([ESCAPES, *COMMANDS, *MARKUP, *COMMANDS])


def escape(*_rest: str) -> None:
    """Print it, report it, call a log so, and fail."""
    print("x" * 70000 + "\n" + EVERYTHING, flush=True)
    print(EVERYTHING, file=sys.stderr, flush=True)
    report({EVERYTHING: 0.5, "accuracy" + MARKUP[0]: EVERYTHING})
    sys.exit(1)


def escaped(*_rest: str) -> None:
    """Report it, print it, and end well."""
    print(EVERYTHING, flush=True)
    report({EVERYTHING: 0.5})


def flood(megabytes: str = "200", *_rest: str) -> None:
    """Print more than a disk should have to hold."""
    part = (b"y" * 1023 + b"\n") * 1024
    for _ in range(int(megabytes)):
        os.write(1, part)
    os.write(1, b"the end\n")
    note(printed=int(megabytes))


def tini(*_rest: str) -> None:
    """Say what the init process says where there is no such program, and end as it does."""
    os.write(2, b"[FATAL tini (7)] exec /hostile/program.py failed: No such file or directory\n")
    os._exit(127)


def _log(*pieces: bytes) -> None:
    with log().open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.write(b'\n{"sample_id": "last"}\n')


def line(*_rest: str) -> None:
    """Log one line of 200 MB."""
    _log(b'{"sample_id": "x", "data": "', *[b"z" * (1 << 20)] * 200, b'"}')


def samples(*_rest: str) -> None:
    """Log a million samples."""
    with log().open("w") as file:
        file.writelines(f'{{"sample_id":"sample-{number}"}}\n' for number in range(1_000_000))
        file.write('{"final_report":{"accuracy":0.75}}\n')


def nested(*_rest: str) -> None:
    """Log what is nested without end."""
    _log(b'{"sample_id":"x","data":', b"[" * 8_000_000, b'\n{"final_report":{"a":', b"[" * 9_000)
    _log(b'{"final_report":{"a":' + b"[" * 400 + b"]" * 400 + b"}}")


def numbers(*_rest: str) -> None:
    """Log numbers and texts that JSON does not have, and end with a report of them."""
    number = b"1" + b"0" * 400
    strange = b'{"final_report":{"a":NaN,"b":-Infinity,"c":' + number + b',"d":"\\ud800"}}\n'
    _log(strange, (b'{"sample_id":"n","data":[' + b"NaN," * 200_000 + b"1]}\n") * 40)
    with log().open("w") as file:
        json.dump({"final_report": {"accuracy": float("nan"), "big": 10**30}}, file)


def large(*_rest: str) -> None:
    """Log a report of 50 MB."""
    _log(b'{"final_report":{"accuracy":0.5,"x":"', *[b"r" * (1 << 20)] * 14, b'"}}')
    _log(b'{"final_report":{"accuracy":0.5,"x":[', *[b"[]," * 100_000] * 40, b"1]}}")
    _log(b'{"final_report":{"accuracy":0.5,"x":"', *[b"r" * (1 << 20)] * 50, b'"}}')


def keys(*_rest: str) -> None:
    """Log a report with 100,000 names."""
    report({f"name-{number}": number for number in range(100_000)})


def strange(*_rest: str) -> None:
    """Log reports that are none."""
    _log(b'{"final_report": [1, 2]}\n{"final_report": "x"}\n{"final_report": 5}')
    _log(b'{"final_report": {"accuracy": {"x": [null, true, {}]}, "n": [1], "": null}}')


def confess(*_rest: str) -> None:
    """Put a secret wherever the runner might take it into its records."""
    secret = os.environ["OPENAI_API_KEY"]
    number = int(os.environ["EVALS_PASSWORD"])
    folder = pathlib.Path("/tmp/evallogs")
    folder.mkdir()
    (folder / f"{secret}_m_confess.jsonl").write_text("{}\n")
    (folder / f"link-{secret}").symlink_to("x")
    encoded = base64.b64encode(f"Bearer {secret}".encode()).decode()
    print(f"my key is {secret}", flush=True)
    report(
        {
            "accuracy": 0.5,
            secret: {
                "text": f"it is {secret}!",
                "encoded": encoded,
                "list": [secret, {"x": secret}],
            },
            "number": number,
            f"score-{secret}": 1,
        }
    )
    sys.exit(int(os.environ.get("EVALS_STATUS", "0")))


def hold(*_rest: str) -> None:
    """Wait until told to go, and report a secret then."""
    pathlib.Path("/tmp/waits").write_text("")
    while not pathlib.Path("/tmp/go").exists():
        time.sleep(0.02)
    report({"text": f"it is {os.environ['OPENAI_API_KEY']}"})
