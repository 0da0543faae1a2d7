import re
from urllib.parse import unquote

import msgspec

_WITH_PASSWORD = re.compile(r"(https?://)([^/@:\s]*):([^/@\s]*)@(.*)", re.IGNORECASE)

# Git asks it for a name and a password; the shell has both from its environment.
_HELPER = (
    '!f() { test "$1" != get || '
    'printf \'username=%s\\npassword=%s\\n\' "$EVALSET_GIT_NAME" "$EVALSET_GIT_PASSWORD"; }; f'
)


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How Git gets to a remote: Git would show an address with a password to everybody.

    It passes an address on to a program of its own, on that one's command line.

    Attributes:
        address: without a password.
        options: for `git`, before the command.
        environ: variables for it.
    """

    address: str
    options: tuple[str, ...] = ()
    environ: dict[str, str] = {}


def access_to(address: str) -> Access:
    """Take the password out of an address, for Git to ask for it where nobody else looks."""
    found = _WITH_PASSWORD.fullmatch(address)
    if found is None:
        return Access(address=address)
    start, name, password, rest = found.groups()
    return Access(
        address=f"{start}{rest}",
        options=("-c", "credential.helper=", "-c", f"credential.helper={_HELPER}"),
        environ={"EVALSET_GIT_NAME": unquote(name), "EVALSET_GIT_PASSWORD": unquote(password)},
    )
