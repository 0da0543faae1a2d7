"""What other hosts need costs nothing where there are none."""

import json

import msgspec
import pytest

from tests.conftest import Place

pytestmark = pytest.mark.docker

# Ends with the modules for other hosts that were imported.
LOADED = """
import json, sys
from runner.cli import main
try:
    main()
finally:
    found = [each for each in sys.modules if each.startswith("runner.hosts")]
    print(json.dumps(found), file=sys.stderr)
"""


@pytest.mark.parametrize("command", ["run", "clean", "doctor"])
@pytest.mark.parametrize("hosts", [[], ["--hosts", "nowhere.invalid"]], ids=["none", "one"])
def test_what_is_for_other_hosts_is_imported_with_hosts_alone(
    place: Place, command: str, hosts: list[str]
) -> None:
    """It takes its time."""
    asker = msgspec.structs.replace(place, program=("-c", LOADED))
    asker.registry("succeed")
    ended = asker.run(*hosts) if command == "run" else asker.ask(command, *hosts)
    assert bool(json.loads(ended.stderr.splitlines()[-1])) == bool(hosts)
    assert ended.returncode == (3 if hosts else 0), ended.stdout + ended.stderr
