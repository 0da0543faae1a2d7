"""What may be wrong with the variables that evals get."""

from collections.abc import Iterable, Iterator, Mapping

from runner.gateway.providers import Access
from runner.image.inside.arguments import LOCAL
from runner.model import ContainerSettings
from runner.options import RunOptions

# How names of variables end that have the address of a provider.
_ADDRESSES = ("_BASE_URL", "_API_BASE", "_ENDPOINT")

# Hosts that are reached without a proxy; they are often this one.
_NO_PROXY = "no_proxy"


def provider_warnings(
    options: RunOptions, environment: Mapping[str, str], access: Access
) -> Iterator[str]:
    """Warnings about providers that cannot be asked, or not by evals.

    Args:
        environment: what is handed in.
        access: who gets what of it.
    """
    if not environment.get("OPENAI_API_KEY") and not access.routes:
        yield (
            "no key or address of a provider is set, so that the gateway can ask none; export "
            "OPENAI_API_KEY, or the variables of another provider"
            if options.gateway
            else "OPENAI_API_KEY is not set, and oaieval asks for it when it starts; export it"
        )
    if access.withheld:
        yield (
            f"evals do not get {', '.join(access.withheld)}, because the gateway knows no "
            "provider for it; --env NAME hands one in, --upstream NAME=URL leads to its provider"
        )


def local_addresses(
    settings: Iterable[ContainerSettings], values: Mapping[str, str], *, gateway: bool
) -> Iterator[str]:
    """Warnings about variables that lead containers to themselves and are meant for this host.

    Of a value, which may be a secret, only that address is shown.

    Args:
        settings: of the containers.
        values: of the variables that they name.
        gateway: whether they reach their providers through it.
    """
    named = {name for each in settings if each.network != "host" for name in each.env}
    for name in sorted(named & values.keys()):
        found = LOCAL.search(values[name])
        if found and name.lower() != _NO_PROXY:
            cure = "write http://host.docker.internal:PORT, or use --network host"
            if name.endswith(_ADDRESSES) and not gateway:
                cure = f"leave --no-gateway out, {cure}"
            yield (
                f"the variable {name} names `{found[2]}`, which inside a container is the "
                f"container itself; {cure}"
            )
