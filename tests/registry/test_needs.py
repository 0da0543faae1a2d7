from runner.options import EXTRAS
from runner.registry.needs import (
    ClassNeeds,
    MeasuredObstacle,
    Need,
    Needs,
    by_image,
    needs,
    read_needs,
)


def test_each_eval_has_the_image_of_its_class_and_its_own_obstacle() -> None:
    """One that runs has none."""
    obstacle = MeasuredObstacle(kind="fetch", why="loads x", evals=("c",))
    given = Needs(
        evals_version="1",
        classes=(
            ClassNeeds(name="m:A", runs=("a",)),
            ClassNeeds(name="m:B", image="ml", runs=("b",), obstacles=(obstacle,)),
        ),
    )
    assert given.by_eval() == {
        "a": Need(image=""),
        "b": Need(image="ml"),
        "c": Need(image="ml", kind="fetch", why="loads x"),
    }


def test_evals_are_told_by_the_image_that_they_need() -> None:
    """Those that the eval image suffices for, and those of one's own, are not among them."""
    names = ["hr-ml-agent-bench.cartpole.v0", "test-match.s1.simple-v0", "my-own.v0"]
    assert by_image(names) == {"ml": names[:1]}
    assert by_image(names[1:]) == {}


def test_what_was_measured_is_whole() -> None:
    """Each eval stands once, in an image that can be built, or with a reason."""
    found = read_needs()
    names = [name for each in found.classes for name in each.evals]
    assert len(names) == len(set(names)) == len(needs())
    for each in found.classes:
        assert each.image in ("", *EXTRAS)
        assert not (each.fails and each.runs)
        assert all(it.evals and it.why for it in each.obstacles)
