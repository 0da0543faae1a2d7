"""The bridge of the machine's engine, as the kernel knows it."""

import json
import subprocess
from typing import Any

from tests.conftest import engine_api


def bridge() -> dict[str, Any]:
    """What `ip -json address show` says of it.

    The engine itself does not name its address before it was restarted or had a container on it.
    """
    options = engine_api().inspect_network("bridge")["Options"]
    shown = subprocess.run(
        ["ip", "-json", "address", "show", options["com.docker.network.bridge.name"]],
        capture_output=True,
        check=True,
    )
    about: dict[str, Any]
    (about,) = json.loads(shown.stdout)
    return about


def gateway() -> str:
    """The machine's IPv4 address on it."""
    found: str
    (found,) = (each["local"] for each in bridge()["addr_info"] if each["family"] == "inet")
    return found


def number_and_addresses() -> list[object]:
    """What must not change of it, whatever other engines do."""
    about = bridge()
    addresses = [[each["local"], each["prefixlen"]] for each in about["addr_info"]]
    return [about["ifindex"], about["address"], *(each for each in addresses if "." in each[0])]
