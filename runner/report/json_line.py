import re
import unicodedata

import msgspec

from runner.report.actions import OLDER_COMMAND, on_actions

# All that is not ASCII, as candidates for what cannot be seen.
_BEYOND = re.compile("[\x7f-\U0010ffff]")


def json_line(value: object) -> str:
    """A value as one line of JSON that neither a terminal nor GitHub's runner takes for more.

    What an eval reported may be in it. Nothing is lost: JSON can write each character otherwise.
    """
    text = _BEYOND.sub(_escaped, msgspec.json.encode(value).decode())
    return OLDER_COMMAND.sub(r"\1\\u005b", text) if on_actions() else text


def _escaped(found: "re.Match[str]") -> str:
    character = found[0]
    if unicodedata.category(character)[0] not in {"C", "Z"}:
        return character
    pair = character.encode("utf-16-be")
    return "".join(f"\\u{pair[at : at + 2].hex()}" for at in range(0, len(pair), 2))
