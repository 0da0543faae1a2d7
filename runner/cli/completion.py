import click


def complete_eval_set(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Eval sets for shell completion."""
    from runner.pipeline.complete import known_registry  # noqa: PLC0415 - completion only

    return [name for name in known_registry().eval_sets if name.startswith(incomplete)]


def complete_eval(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Evals for shell completion."""
    from runner.pipeline.complete import known_registry  # noqa: PLC0415 - completion only

    return [name for name in known_registry().evals if name.startswith(incomplete)]


def complete_model(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Models for shell completion: `dummy`, completion functions and solvers."""
    from runner.pipeline.complete import known_registry  # noqa: PLC0415 - completion only

    registry = known_registry()
    names = ("dummy", *registry.completion_fns, *registry.solvers)
    return [name for name in names if name.startswith(incomplete)]
