from collections.abc import Callable

from runner.execute.build import build
from runner.execute.engine import Engine
from runner.execute.image import FINGERPRINT, find, own_fingerprint
from runner.pipeline.prepare import builtin_registry, this_host


def build_image(
    name: str, *, base_image: str | None, rebuild: bool, tell: Callable[[str], None]
) -> None:
    """Build the eval image, and read its registry so that the first run starts fast."""
    engine = Engine()
    built = build(engine.api, tag=name, base_image=base_image, tell=tell, rebuild=rebuild)
    builtin_registry(engine, built, this_host())
    engine.make_eval_network()


def image_facts(name: str) -> dict[str, str | None]:
    """What identifies an image, and its labels; a fingerprint only if it is its own."""
    api = Engine().api
    found = find(api, name)
    fingerprint = own_fingerprint(api, found)
    labels = {
        label: value
        for label, value in sorted(found.labels.items())
        if label != FINGERPRINT or fingerprint is not None
    }
    return {
        "name": found.name,
        "id": found.id,
        "digest": found.digest,
        "fingerprint": fingerprint,
        **labels,
    }
