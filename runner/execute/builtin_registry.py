import docker
import msgspec

from runner.errors import EnvironmentFault
from runner.execute import probe
from runner.execute.image import Image

# Imports nothing of evals, which would cost a second. Direct children only, as upstream reads them.
READ_REGISTRY = """
import importlib.util, json, pathlib, sys
spec = importlib.util.find_spec("evals")
found = {}
for package in (spec.submodule_search_locations or ()) if spec else ():
    for kind in "eval_sets", "evals", "completion_fns", "solvers", "modelgraded":
        for path in sorted((pathlib.Path(package) / "registry" / kind).glob("*.yaml")):
            found[kind + "/" + path.name] = path.read_text(encoding="utf-8")
json.dump(found, sys.stdout)
"""


def read_builtin_registry(api: docker.APIClient, image: Image) -> dict[str, str]:
    """The registry of the openai/evals inside an image: YAML text by path, such as `evals/a.yaml`.

    Empty for an image without python3 or without openai/evals.

    Raises:
        EnvironmentFault: the engine does not do its part, or a file there cannot be read.
    """
    answer = probe.ask(api, image.id, ["python3", "-c", READ_REGISTRY])
    if answer.exit_code == probe.NO_COMMAND:
        return {}
    if answer.exit_code:
        raise EnvironmentFault(
            f"cannot read the registry inside the image {image.name}: {answer.last_line}; try "
            "`evalset image build --rebuild`, or another --image"
        )
    return msgspec.json.decode(answer.stdout, type=dict[str, str])
