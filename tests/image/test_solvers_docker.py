import json
import subprocess
from pathlib import Path

import pytest

from runner.image.image import Image

ANTHROPIC = Path(__file__).with_name("inside") / "anthropic_solver.py"


@pytest.mark.docker
def test_the_solver_for_anthropic_asks_and_is_answered(eval_image: Image) -> None:
    """With the SDK of today, which the release of evals does not know."""
    run = ("docker", "run", "--rm", "--interactive", "--network=none", "--env=OPENAI_API_KEY=none")
    done = subprocess.run(
        [*run, eval_image.id, "python", "-"],
        input=ANTHROPIC.read_bytes(),
        capture_output=True,
        check=True,
    )
    asked, answered = done.stdout.decode().splitlines()
    content = [{"text": "how are you?", "type": "text"}]
    assert json.loads(asked) == [{"role": "user", "content": content}]
    assert answered == "fine"
