import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.code_blocks import BLOCKS, COMMANDS, OTHERS, languages, shown
from tests.docs.elsewhere import ELSEWHERE, FOLLOWED
from tests.docs.page import PAGES, blocks, prose, spans
from tests.docs.scenes import SCENES

NAMES = {typed.name for block in BLOCKS for typed in block.typed}
PAGE = """
```sh
make a   # a comment
# another

echo '# no comment'
```

* A point:

  ```sh
  b --long \\
      --longer
  c
  ```

```console
$ d
one
two
$ e
Error: no
```

```json
{"run": "no command"}
```

```yaml
jobs:
  one:
    steps:
      - uses: something
      - run: f
      - run: |
          g
          h
```
"""
# What imports evals runs in a container, as the test of its page shows.
PYTHON = [
    block
    for text in PAGES.values()
    for block in blocks(text, "python")
    if "import evals" not in block
]


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_runs_elsewhere_is_shown_and_runs_there(command: str) -> None:
    """A page shows it, and the test or the script that runs it is there."""
    assert command in NAMES
    assert ELSEWHERE[command].is_there()


def test_a_page_that_is_followed_has_its_test() -> None:
    """And is there itself."""
    assert FOLLOWED.keys() <= {block.page for block in BLOCKS}
    assert all(test.is_there() for test in FOLLOWED.values())


@pytest.mark.parametrize("start", SCENES)
def test_a_scene_is_made_for_what_is_shown(start: str) -> None:
    """Some block begins with its command."""
    assert any(block.typed[0].name.startswith(start) for block in BLOCKS)


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_passed_over(page: str) -> None:
    """Each says in a word that is known what is in it, and those with commands have some."""
    assert languages(PAGES[page]) <= {*COMMANDS, *OTHERS}
    assert all(block.typed for block in BLOCKS)


@pytest.mark.parametrize("code", PYTHON)
def test_python_shown_runs(code: str, tmp_path: Path) -> None:
    """Far from the checkout, with the package alone."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_completion_is_set_up_as_the_page_says() -> None:
    """After what it shows, bash knows how to complete the command."""
    (line,) = [span for span in spans(prose(PAGES["docs/install.md"])) if span.startswith("eval ")]
    ended = subprocess.run(
        ["bash", "-c", f"{line}\ncomplete -p evalset"],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "_evalset_completion" in ended.stdout


def test_commands_are_told_from_what_is_around_them() -> None:
    """Comments and answers are none; a backslash continues; the steps of a job are one block."""
    found = [[(typed.name, typed.answer) for typed in block.typed] for block in shown("p", PAGE)]
    assert found == [
        [("make a", ()), ("echo '# no comment'", ())],
        [("b --long --longer", ()), ("c", ())],
        [("d", ("one", "two")), ("e", ("Error: no",))],
        [("f", ()), ("g", ()), ("h", ())],
    ]


def test_an_error_that_is_shown_is_that_of_a_bad_command_line() -> None:
    """All else is to succeed."""
    statuses = [typed.status for block in shown("p", PAGE) for typed in block.typed]
    assert statuses == [0, 0, 0, 0, 0, 2, 0, 0, 0]
