from collections.abc import Sequence

# where registry folders lie in every container, so that a command is the same on every host
CONTAINER_REGISTRY = "/registry"


def container_registries(count: int) -> tuple[str, ...]:
    """Give the places of so many registry folders in the container, in order."""
    return tuple(f"{CONTAINER_REGISTRY}/{index}" for index in range(count))


def build_command(
    *,
    run_command: str,
    model: str,
    eval: str,  # noqa: A002 - upstream's word, and ours
    passed_through: Sequence[str] = (),
    registry_paths: Sequence[str] = (),
) -> tuple[str, ...]:
    """Give the argv for one eval.

    Upstream writes several registry paths as `--registry_path a b`, which `oaieval` rejects; the
    option stands once for each here. With one path, or none, the command is upstream's.
    """
    options = (part for path in registry_paths for part in ("--registry_path", path))
    return (run_command, model, eval, *passed_through, *options)


def identities(
    *,
    run_command: str,
    model: str,
    eval: str,  # noqa: A002 - upstream's word, and ours
    passed_through: Sequence[str] = (),
    registry_paths: Sequence[str] = (),
) -> tuple[tuple[str, ...], ...]:
    """Give every argv under which a progress file may hold this job as finished.

    Args:
        run_command: the program.
        model: the model.
        eval: the resolved key of the eval.
        passed_through: arguments for the program.
        registry_paths: as typed.

    Returns:
        With the container's paths (as `evalset` records it), with the paths as typed (as
        `oaievalset` records it), and as upstream records several paths; each once.
    """
    start = (run_command, model, eval, *passed_through)
    if not registry_paths:
        return (start,)
    forms = [
        build_command(
            run_command=run_command,
            model=model,
            eval=eval,
            passed_through=passed_through,
            registry_paths=paths,
        )
        for paths in (container_registries(len(registry_paths)), registry_paths)
    ]
    return tuple(dict.fromkeys([*forms, (*start, "--registry_path", *registry_paths)]))
