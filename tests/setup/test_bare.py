from tests.setup.machine import ROOT, Machine, assert_says_one_line

BARE = ROOT / "scripts" / "bare"


def test_without_root_a_line_says_how_to_become_root(machine: Machine) -> None:
    """Nobody else may mount file systems and start an engine."""
    machine.is_user("1000")
    assert_says_one_line(machine.run(BARE), "only root", "sudo -E make bare")


def test_without_its_programs_a_line_says_what_to_install(machine: Machine) -> None:
    """Where they cannot be installed."""
    machine.is_system("fedora")
    assert_says_one_line(machine.run(BARE), "mmdebstrap is needed", "apt-get install mmdebstrap")
