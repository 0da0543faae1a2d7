"""Whether providers answer for what a run asks, before its first eval does."""

from collections.abc import Callable

from runner.errors import EnvironmentFault
from runner.gateway.client import Gateway
from runner.gateway.providers import route_of
from runner.host import KEYLESS_MODEL
from runner.run.prepare import Prepared


def check_answered(prepared: Prepared) -> None:
    """Refuse a run whose evals would ask nobody."""
    models = ", ".join(prepared.models_without_provider)
    if not models:
        return
    if not prepared.routes:
        raise EnvironmentFault(
            f"no key or address of a provider is set, so requests for {models} have nowhere to go",
            "export OPENAI_API_KEY, or the variables of another provider",
        )
    others = ", ".join(sorted(prepared.routes))
    raise EnvironmentFault(
        f"evals ask OpenAI's API for {models}, and what is set up does not answer there: {others}",
        "export OPENAI_API_KEY, or name a server of that API with --upstream openai=URL",
    )


def ask_providers(prepared: Prepared, gateway: Gateway, *, warn: Callable[[str], None]) -> None:
    """Ask all providers whose address was named, and those that have the model.

    Args:
        warn: is told of one that this run may not need, from another thread and when that is known.

    Raises:
        EnvironmentFault: one that has the model, or that `--upstream` names, does not answer.
    """
    routes = prepared.routes
    models = () if prepared.model_is_code else prepared.options.model.split(",")
    asked: dict[str, set[str]] = {each.name: set() for each in prepared.options.upstreams}
    for model in {*models} - {KEYLESS_MODEL}:
        route = route_of(model, routes)
        if route is not None:
            named = asked.setdefault(route.name, set())
            named |= set() if prepared.resolution.defines_model else {model}
    gateway.check(
        [(routes[name], model) for name in sorted(asked) for model in sorted(asked[name]) or [""]]
    )
    others = [each for each in routes.values() if each.is_named and each.name not in asked]
    gateway.check_later(others, warn)
