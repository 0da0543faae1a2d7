"""What docs/contributing.md asks of the code, where ruff has no rule for it."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

RUNNER = Path(__file__).parents[1] / "runner"
MODULES = {
    str(path.relative_to(RUNNER)): path.read_text()
    for path in sorted(RUNNER.rglob("*.py"))
    if "template" not in path.parts
}
# What imports modules is called this in Python.
NAMED_BY_PYTHON = {"Finder"}
# What others define: click's method, and readers that stand in for those of evals.
DEFINED_ELSEWHERE = {"resolve_command", "load_directory", "load_file"}


def test_no_module_is_long() -> None:
    """One that has grown beyond this is about more than one thing."""
    long = {name for name, text in MODULES.items() if text.count("\n") > 400}
    assert not long


def test_others_know_from_the_state_alone_where_a_run_stands() -> None:
    """Only records/ reads its files; the drop-in has upstream's own class for one of them."""
    reads = re.compile(r"\b(read|parse)_(attempts|progress|run_file)\b")
    found = {name for name, text in MODULES.items() if reads.search(text)}
    assert {name for name in found if not name.startswith("records/")} == {"oaievalset.py"}


def test_a_class_has_a_name_of_its_own() -> None:
    """Else two rooms mean different things by one word."""
    names = Counter(
        node.name
        for name, text in MODULES.items()
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in names.items() if count > 1} <= NAMED_BY_PYTHON


def test_no_function_returns_many_things_without_names() -> None:
    """From three on, a struct says which is which."""
    found = {
        f"{name}: {function}"
        for name, text in MODULES.items()
        for function in returning_tuples(ast.parse(text))
    }
    assert not found


def returning_tuples(module: ast.Module) -> Iterator[str]:
    """Names of functions whose annotation has a tuple of more than two that it gives."""
    functions = (
        node
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns
    )
    for function in functions:
        assert function.returns
        found = any(map(is_long, ast.walk(function.returns)))
        if found and function.name not in DEFINED_ELSEWHERE:
            yield function.name


def is_long(node: ast.AST) -> bool:
    """Whether this is a `tuple[A, B, C]`."""
    match node:
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[_, _, _, *_])):
            return True
    return False
