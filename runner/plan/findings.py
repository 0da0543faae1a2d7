"""What a look into an image found, before any eval is started.

The program in runner/image/inside/ finds it, and explanations.py tells people what it means.
"""

import msgspec

# Kinds of findings that lack of memory or time may have caused, unless they are sure.
_MAY_CHANGE = {"hangs", "killed", "unseen", "network"}


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that may keep an eval from running.

    Attributes:
        kind: what it is, a key of one of the tables in explanations.py.
        sure: whether an eval surely fails of it; if not, people are warned, and it is tried.
        said: the words of Python, the loader or the parser, or the value that it is about.
        where: file and line where Python raised it.
        file: of the registry, as containers see it.
        entry: name of the entry, or of the option.
        argument: of the entry.
        cls: the class.
        module: that is missing.
        path: of data, as containers see it.
        shape: type of a bad entry.
        alias: text of a bad entry that is text.
    """

    kind: str
    sure: bool = True
    said: str = ""
    where: str = ""
    file: str = ""
    entry: str = ""
    argument: str = ""
    cls: str = ""
    module: str = ""
    path: str = ""
    shape: str = ""
    alias: str = ""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a look into an image found.

    Attributes:
        looked: whether there is an `oaieval` that could be asked.
        refused: what keeps every eval from running.
        evals: what keeps an eval from running, by its name; a name that begins with `/` is a
            model's.
    """

    looked: bool = True
    refused: tuple[Finding, ...] = ()
    evals: dict[str, tuple[Finding, ...]] = {}

    def lasting(self) -> "Look":
        """The same without the evals about which another look may find something else.

        A look is always at some eval, so that no eval is kept if a model has to be looked at again.
        """
        changing = {
            name
            for name, found in self.evals.items()
            if any(each.kind in _MAY_CHANGE and not each.sure for each in found)
        }
        kept = {name: found for name, found in self.evals.items() if name not in changing}
        if any(name.startswith("/") for name in changing):
            kept = {}
        return msgspec.structs.replace(self, evals=kept)
