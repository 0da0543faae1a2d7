"""The commands shown that no test of the pages runs: who runs them instead."""

from pathlib import Path

import msgspec

from tests.docs.code_blocks import BLOCKS
from tests.docs.page import ROOT


class Test(msgspec.Struct, frozen=True):
    """A test that runs it, or what it consists of.

    Attributes:
        file: below the folder `tests`.
        function: in there.
    """

    file: str
    function: str

    @property
    def path(self) -> Path:
        """The file."""
        return ROOT / "tests" / self.file

    def is_there(self) -> bool:
        """Whether the file has the function."""
        return f"\ndef {self.function}(" in self.path.read_text()


class Script(msgspec.Struct, frozen=True):
    """A script of ours that runs it.

    Attributes:
        file: below the checkout.
        line: in there.
    """

    file: str
    line: str

    def is_there(self) -> bool:
        """Whether the file has the line."""
        lines = (ROOT / self.file).read_text().splitlines()
        return self.line in map(str.strip, lines)


class Person(msgspec.Struct, frozen=True):
    """Only a person can.

    Attributes:
        why: in a line.
    """

    why: str

    def is_there(self) -> bool:
        """Nobody else is."""
        return bool(self.why)


ELSEWHERE: dict[str, Test | Script | Person] = {
    "make test": Script(".ci/run", "exec make test"),
    "pip install .": Test(
        "packaging/test_installed.py", "test_both_programs_run_without_the_checkout"
    ),
    "pipx install .": Test("packaging/test_installed.py", "test_pipx_installs_it"),
    "uv tool install .": Test("packaging/test_installed.py", "test_uv_installs_it"),
    "uvx --from . evalset doctor": Test("packaging/test_installed.py", "test_uvx_runs_it"),
    ".venv/bin/python -m pytest -m 'not docker and not upstream'": Test(
        "docs/test_contributing.py", "test_the_ways_to_run_tests_find_some"
    ),
    "evalset image build --base-image python:3.11-slim-bookworm": Test(
        "packaging/test_installed.py", "test_the_image_is_built_without_the_checkout"
    ),
    "evalset image build --extra ml": Script("Makefile", "$(EVALSET) image build --extra ml"),
    "evalset verify gpt-4 test-basic": Test(
        "run/test_verify_real_docker.py", "test_a_run_is_the_same_again_without_its_provider"
    ),
    "evalset verify gpt-4 test-basic --select 'test-match*' --json": Test(
        "run/test_verify_docker.py", "test_a_report_that_differs_is_found"
    ),
    "evalset verify gpt-4 test-basic --branch evalset/gpt-4.test-basic": Test(
        "run/test_verify_docker.py", "test_a_branch_is_verified_without_its_progress_directory"
    ),
    "evalset data fetch gpt-4 mmmu": Test(
        "data/test_fetch_docker.py",
        "test_evals_of_three_families_run_offline_twice_with_what_was_fetched_once",
    ),
    "evalset data fetch gpt-4 mmmu --env HF_TOKEN": Test(
        "data/test_fetch_faults_docker.py", "test_no_key_gets_into_a_container_that_fetches"
    ),
    "evalset data list": Test(
        "data/test_fetch_faults_docker.py", "test_data_are_listed_and_removed"
    ),
    "evalset data clean --select 'lambada*'": Test(
        "data/test_fetch_faults_docker.py", "test_data_are_listed_and_removed"
    ),
    "scripts/compat 3.12 lowest": Script(
        ".github/workflows/ci.yml",
        'run: sudo --preserve-env=HOME scripts/compat "$PYTHON" "$DEPENDENCIES"',
    ),
    "evalset doctor --hosts lab1,lab2": Test(
        "hosts/test_commands_on_hosts.py", "test_doctor_says_of_each_host_what_it_is_or_lacks"
    ),
    "evalset run gpt-4 test-basic --hosts lab1,lab2=8,me@lab3,local": Test(
        "hosts/test_run_on_hosts.py", "test_evals_run_on_all_hosts_and_on_this_one"
    ),
    "evalset status gpt-4 test-basic --ask-hosts": Test(
        "hosts/test_commands_on_hosts.py", "test_the_status_knows_what_runs_on_hosts"
    ),
    "evalset clean --hosts lab1,lab2": Test(
        "hosts/test_commands_on_hosts.py", "test_the_status_knows_what_runs_on_hosts"
    ),
    'sudo usermod -aG docker "$USER"': Person("it changes who may do what on the machine"),
}

JQ = Test("docs/test_formats.py", "test_the_jq_examples_give_what_they_say")
ELSEWHERE |= {
    typed.name: JQ
    for block in BLOCKS
    for typed in block.typed
    if block.page == "docs/formats.md" and typed.name.startswith("jq ")
}

# Pages that are followed from their beginning to their end, each in one folder.
FOLLOWED = {
    page: Test("docs/test_followed.py", "test_a_page_to_follow_does_what_it_shows")
    for page in ("docs/quick-start.md", "docs/registry.md")
}
