from runner.model import build_command, container_registries, identities


def test_a_command_is_upstreams() -> None:
    """Program, model, eval, what is passed through, then the registry path."""
    command = build_command(
        run_command="oaieval",
        model="m",
        eval="e.dev.v0",
        passed_through=["--max_samples", "5"],
        registry_paths=["r"],
    )
    assert command == ("oaieval", "m", "e.dev.v0", "--max_samples", "5", "--registry_path", "r")


def test_several_registry_paths_each_have_the_option() -> None:
    """`oaieval` rejects upstream's `--registry_path a b`."""
    command = build_command(run_command="r", model="m", eval="e", registry_paths=["a", "b"])
    assert command == ("r", "m", "e", "--registry_path", "a", "--registry_path", "b")


def test_containers_have_registries_at_fixed_places() -> None:
    """The place depends on the order alone, so that commands are the same on every host."""
    assert container_registries(2) == ("/registry/0", "/registry/1")
    assert container_registries(0) == ()


def test_a_job_is_recognised_in_every_form() -> None:
    """As `evalset` records it, as the drop-in does, and as upstream does."""
    forms = identities(run_command="r", model="m", eval="e", registry_paths=["a", "b"])
    first = ("--registry_path", "/registry/0", "--registry_path", "/registry/1")
    assert forms == (
        ("r", "m", "e", *first),
        ("r", "m", "e", "--registry_path", "a", "--registry_path", "b"),
        ("r", "m", "e", "--registry_path", "a", "b"),
    )
    assert identities(run_command="r", model="m", eval="e") == (("r", "m", "e"),)
    assert len(identities(run_command="r", model="m", eval="e", registry_paths=["a"])) == 2
