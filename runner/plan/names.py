import unicodedata

from runner.errors import UsageError

MOST_CHARACTERS = 299
# of one part of a path, on every file system that Linux commonly has
MOST_BYTES = 255
# what is set aside keeps its name and gets a date
_LONGEST_SUFFIX = ".attempts.jsonl.20260101T000000.000000Z"


def check_names(model: str, eval_set: str) -> None:
    """Refuse names that cannot name the files of a run, alone or together.

    Raises:
        UsageError: one of them leads elsewhere, or no file can have that name.
    """
    check_name("model", model)
    check_name("eval set", eval_set)
    for part in f"{model}.{eval_set}{_LONGEST_SUFFIX}".split("/"):
        if len(part.encode()) > MOST_BYTES:
            raise UsageError(
                f"the names of model and eval set are too long together: `{part[:40]}...` has "
                f"{len(part.encode())} bytes, and a file name has at most {MOST_BYTES}; "
                "shorten one of them"
            )


def check_name(kind: str, name: str) -> None:
    """Refuse a model's or an eval set's name that leads elsewhere or cannot name a file.

    A `/` makes a subfolder, as it does in upstream.

    Args:
        kind: what it names, for the message.
        name: as given on the command line.

    Raises:
        UsageError: it is such a name.
    """
    if not name.strip():
        raise UsageError(f"the {kind}'s name is empty; give one")
    shown = ascii(name[:60])[1:-1] + ("..." if len(name) > 60 else "")  # noqa: PLR2004 - plain
    # a surrogate stands for a byte of the command line that is no UTF-8
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise UsageError(
            f"the {kind}'s name `{shown}` holds characters that cannot be printed; leave them out"
        )
    if name.startswith("/"):
        raise UsageError(
            f"the {kind}'s name `{shown}` is an absolute path; leave out the `/` at its start"
        )
    parts = name.split("/")
    if ".." in parts:
        raise UsageError(
            f"the {kind}'s name `{shown}` has `..` in it and would lead elsewhere; give it without"
        )
    longest = max(len(part.encode()) for part in parts)
    if len(name) > MOST_CHARACTERS or longest > MOST_BYTES:
        raise UsageError(
            f"the {kind}'s name `{shown}` is too long: {len(name)} characters, at most "
            f"{MOST_CHARACTERS}, and at most {MOST_BYTES} bytes between two `/`; give a shorter one"
        )
