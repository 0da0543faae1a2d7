from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Give `; did you mean ...?` with the known names closest to a wrong one, or nothing."""
    import difflib  # noqa: PLC0415 - only a wrong name pays for it

    names = list(known)
    close = difflib.get_close_matches(name, names)
    # A name cut short is far from it by difflib's measure, and near to a person's eye.
    if name:
        close += [other for other in names if other.startswith(name) and other not in close]
    if not close:
        return ""
    return "; did you mean " + " or ".join(f"`{other}`" for other in close[:3]) + "?"
