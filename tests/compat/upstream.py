import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

PYTHON = Path(__file__).parents[2] / ".venv-upstream/bin/python"
SIDE = Path(__file__).with_name("upstream_side.py")


def ask(questions: Sequence[tuple[str, object]]) -> list[Any]:
    """Put questions to upstream's own code, all at once, because its start takes seconds."""
    if not PYTHON.exists():
        pytest.fail(f"openai/evals is not in {PYTHON.parents[1].name}: run `make upstream`")
    answered = subprocess.run(
        [PYTHON, SIDE],
        input="".join(json.dumps(question) + "\n" for question in questions),
        capture_output=True,
        text=True,
        check=False,
        # upstream cannot be imported without a key, and asks nobody with it here
        env={**os.environ, "OPENAI_API_KEY": "x"},
    )
    if answered.returncode:
        pytest.fail(f"upstream's side ended with {answered.returncode}: {answered.stderr[-2000:]}")
    return [json.loads(line) for line in answered.stdout.splitlines()]
