from tests.commands.conftest import Here, contents, only_line
from tests.commands.repositories import not_ours


def refused(here: Here, *arguments: str, code: int = 2) -> str:
    """As `Here.refused`, for what takes the run's lock, which leaves its file, and may fetch."""
    before = not_ours(contents(here.folder))
    line = only_line(here.evalset(*arguments), code)
    assert not_ours(contents(here.folder)) == before
    return line
