import json
import re
from pathlib import Path

import msgspec

from runner.model import ContainerSettings
from runner.registry.entries import RegistryFile, parse_registry
from runner.registry.resolve import resolve_eval_set
from runner.registry.rules import parse_rules

FOLDER = Path(__file__).parents[2] / "registry"


def files(*kinds: str) -> list[RegistryFile]:
    """The files of the registry that ships with the project."""
    return [
        RegistryFile(path=str(path), kind=kind, text=path.read_text())
        for kind in kinds
        for path in sorted((FOLDER / kind).glob("*.yaml"))
    ]


def test_the_demo_set_resolves() -> None:
    """Six evals, each once, though each has an alias."""
    found = resolve_eval_set(parse_registry(files("evals", "eval_sets")), "demo")
    assert len(found.evals) == 6
    assert all(key.endswith(".dev.v0") for key in found.evals)


def test_the_demo_data_is_json_lines() -> None:
    """Every sample has an input, or is one of the worked examples."""
    for path in (FOLDER / "data/demo").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            assert {"input", "sample"} & json.loads(line).keys(), path


def test_the_demo_runs_without_a_network() -> None:
    """The rule that ships as an example is valid, and is about the demo alone."""
    (rule,) = parse_rules(files("containers"))
    assert rule.pattern == "demo-*"
    assert rule.settings == {"memory": 1024**3, "network": "none", "timeout": 600.0}


def test_the_example_next_to_the_rule_has_every_key() -> None:
    """Without its comment signs it is a valid rule with all that a container's settings have."""
    (file,) = files("containers")
    text = "\n".join(re.findall(r"^#   (.*)", file.text, re.MULTILINE))
    (example,) = parse_rules([msgspec.structs.replace(file, text=text)])
    assert {*example.settings, "env", "code"} == {*ContainerSettings.__struct_fields__}
