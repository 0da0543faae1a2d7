import shutil
from pathlib import Path

import pytest

from tests.setup.machine import ROOT, Machine, assert_says_one_line

FAKE_PYTHON = """#!/bin/sh
case "$*" in
    --version) echo 'Python 3.13.0' ;;
    '-m venv '*) for last; do :; done; mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
    '-m pip '*) echo "$@" >> "$MACHINE/pip.log" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", copy / "scripts")
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def test_the_package_is_installed_once(machine: Machine, checkout: Path) -> None:
    """A second set-up installs nothing, until pyproject.toml changes."""
    machine.has("python3.13", FAKE_PYTHON)
    installs = machine.root / "pip.log"
    setup = checkout / "scripts" / "setup"

    assert machine.run(setup).returncode == 0
    assert machine.run(setup).stdout == ""
    assert len(installs.read_text().splitlines()) == 1

    with (checkout / "pyproject.toml").open("a") as file:
        file.write("\n")
    assert machine.run(setup).returncode == 0
    assert len(installs.read_text().splitlines()) == 2


def test_a_moved_checkout_is_set_up_anew(machine: Machine, checkout: Path) -> None:
    """A virtual environment that points to where the checkout was is made again."""
    machine.has("python3.13", FAKE_PYTHON)
    assert machine.run(checkout / "scripts" / "setup").returncode == 0
    moved = checkout.rename(checkout.with_name("moved"))
    assert "Python 3.13.0" in machine.run(moved / "scripts" / "setup").stdout


def test_without_a_suitable_python_a_line_says_what_to_install(
    machine: Machine, checkout: Path
) -> None:
    """An old Python, or none, is told apart from one that lacks a package."""
    machine.has("python3", "#!/bin/sh\nexit 1\n")
    done = machine.run(checkout / "scripts" / "setup")
    assert_says_one_line(done, "Python 3.11 or later", "apt-get install")


def test_a_python_without_venv_is_completed_or_named(machine: Machine, checkout: Path) -> None:
    """Debian's split of Python is fixed where we may; elsewhere the package is named."""
    machine.is_user("1000")
    machine.has(
        "python3.12",
        '#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; *print*) echo python3.12-venv ;; esac\n',
    )
    done = machine.run(checkout / "scripts" / "setup")
    assert_says_one_line(done, "apt-get install python3.12-venv")
