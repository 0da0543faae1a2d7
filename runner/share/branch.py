import hashlib
import re

# What Git takes nowhere in a branch's name, and what would need quoting in a shell.
_REFUSED = re.compile(r"[^\w./+-]|\.\.+|/{2,}|@\{", re.ASCII)


def default_branch(model: str, eval_set: str) -> str:
    """The branch for the snapshots of a model and eval set, a name that Git takes.

    Where something of the names had to be replaced, a hash keeps the branch apart from others.
    """
    name = f"{model}.{eval_set}"
    parts = [
        part.strip(".").removesuffix(".lock") or "-" for part in _REFUSED.sub("-", name).split("/")
    ]
    legal = "/".join(parts)
    if legal != name:
        legal += f"-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return f"evalset/{legal}"
