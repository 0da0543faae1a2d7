import pytest

from runner.commands.run import command as run_command


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of this machine stands in for an option."""
    for param in run_command.params:
        if isinstance(param.envvar, str):
            monkeypatch.delenv(param.envvar, raising=False)
