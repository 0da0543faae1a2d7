import pytest


@pytest.fixture(autouse=True)
def nowhere_special(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown depends on these, and tests may run on CI themselves."""
    for name in ("CI", "GITHUB_ACTIONS", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM"):
        monkeypatch.delenv(name, raising=False)
