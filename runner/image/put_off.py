"""Rewrites bytecode in the eval image, when it is built, so that imports wait until they are used.

An `oaieval` imports 1,600 modules and uses a third of them. In a module that is rewritten, a name
that only functions use is imported when one of them is called, or when somebody else asks the
module for it. The source stays as it is, and Python compares it with a hash in the bytecode: when
somebody has changed it, such as a later version of the package, it is compiled anew, and nothing is
put off.
"""

import ast
import importlib.util
import marshal
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

# What is rewritten, below site-packages. No module of an eval itself: one whose package is missing
# is to fail when it is imported, as it does elsewhere.
MODULES = (
    "blobfile/*.py",
    "evals/__init__.py",
    "evals/api.py",
    "evals/completion_fns/solver_completion_fn.py",
    "evals/data.py",
    "evals/eval.py",
    "evals/record.py",
    "evals/registry.py",
    "evals/solvers/providers/openai/openai_solver.py",
    "evals/solvers/solver.py",
    "evals/solvers/utils.py",
    "openai/__init__.py",
    "openai/_base_client.py",
    "openai/_utils/_sync.py",
    "openai/lib/**/__init__.py",
    "openai/resources/**/__init__.py",
    "openai/types/**/__init__.py",
    "tqdm/__init__.py",
)

# A module that looks at its own names may use any of them, and is left alone, but for these names.
LOOKS = frozenset({"__getattr__", "eval", "exec", "globals", "locals", "vars"})
UNSEEN = {
    "openai/__init__.py": {
        "AssistantEventHandler",
        "AsyncAssistantEventHandler",
        "pydantic_function_tool",
    }
}

# Global variables that are made when they are used, if an environment variable has a value; without
# it, making them fails.
VARIABLES = {("evals/registry.py", "client"): "OPENAI_API_KEY"}

# What a package's modules import for type hints and remote files. They get a stand-in, which
# imports it when it is used.
STAND_INS = {"blobfile": "urllib3"}

HELPERS = """
def __getattr__(name):
    from evalset_image_hook import attribute
    return attribute(globals(), name)
def __dir__():
    from evalset_image_hook import names
    return names(globals())
"""


def put_off_imports(folder: Path) -> None:
    """Rewrite the bytecode of what is listed and there, below a `site-packages` folder."""
    for path in sorted({path for pattern in MODULES for path in folder.glob(pattern)}):
        tree = rewritten(path, path.relative_to(folder).as_posix())
        if tree is not None:
            _write(path, tree)


def _write(path: Path, tree: ast.Module) -> None:
    # Python's own format of bytecode that is checked against its source (PEP 552).
    code = compile(tree, str(path), "exec", dont_inherit=True)
    head = importlib.util.MAGIC_NUMBER + (0b11).to_bytes(4, "little")
    target = Path(importlib.util.cache_from_source(str(path)))
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(head + importlib.util.source_hash(path.read_bytes()) + marshal.dumps(code))


def rewritten(path: Path, name: str) -> ast.Module | None:
    """A module with its imports put off; None if there are none that can be.

    Args:
        path: of the source.
        name: of the source, below `site-packages`.
    """
    tree = ast.parse(path.read_bytes())
    tree.body = [*chain.from_iterable(map(_parts, tree.body))]
    changed = _put_stand_in(tree, STAND_INS.get(path.parent.name))
    waiting = _names_that_can_wait(tree, path, name)
    if not waiting:
        return ast.fix_missing_locations(tree) if changed else None
    loaders = {each: f"__put_off_{count}__" for count, each in enumerate(sorted(waiting))}
    late = _LoadWhereUsed(loaders)
    kept: list[ast.stmt] = []
    put_off: list[ast.stmt] = []
    for statement in tree.body:
        bound = _bound(statement)
        if bound not in waiting:
            kept.append(late.visit(statement))
            continue
        if isinstance(statement, ast.Assign):
            statement.value = late.visit(statement.value)
        put_off.append(_loader(loaders[bound], bound, statement))
        if needed := VARIABLES.get((name, bound)):
            kept += _parsed(f"__import__('os').environ.get({needed!r}) or {loaders[bound]}()")
    entries = ", ".join(f"{each!r}: {loader}" for each, loader in loaders.items())
    added = [*_parsed(HELPERS), *put_off, *_parsed(f"__put_off__ = {{{entries}}}")]
    begin = _beginning(kept)
    tree.body = [*kept[:begin], *added, *kept[begin:]]
    return ast.fix_missing_locations(tree)


def _parsed(code: str) -> list[ast.stmt]:
    return ast.parse(code).body


def _parts(statement: ast.stmt) -> Iterator[ast.stmt]:
    """An import of several names as several statements."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            yield ast.copy_location(ast.Import([alias]), statement)
    elif isinstance(statement, ast.ImportFrom):
        for alias in statement.names:
            part = ast.ImportFrom(statement.module, [alias], statement.level)
            yield ast.copy_location(part, statement)
    else:
        yield statement


def _bound(statement: ast.stmt) -> str:
    """The name that an import of one name or a plain assignment binds; nothing for all else."""
    match statement:
        case ast.ImportFrom(module="__future__") | ast.ImportFrom(names=[ast.alias(name="*")]):
            return ""
        case ast.Import(names=[alias]) | ast.ImportFrom(names=[alias]):
            return alias.asname or alias.name.partition(".")[0]
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
    return ""


def _put_stand_in(tree: ast.Module, module: str | None) -> bool:
    """Replace the import of a module by a stand-in; False if there is no such import."""
    for index, statement in enumerate(tree.body):
        match statement:
            case ast.Import(names=[ast.alias(name=name, asname=None)]) if name == module:
                code = f"{module} = __import__('evalset_image_hook').StandIn({module!r})"
                tree.body[index : index + 1] = _parsed(code)
                if not any(map(_is_future, tree.body)):
                    _HintsAsText(module).visit(tree)
                return True
    return False


class _HintsAsText(ast.NodeTransformer):
    """Puts functions' type hints in quotes, if a name is in them."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _quoted(self, hint: ast.expr | None) -> ast.expr | None:
        if hint is None or isinstance(hint, ast.Constant):
            return hint
        names = {node.id for node in ast.walk(hint) if isinstance(node, ast.Name)}
        return ast.Constant(ast.unparse(hint)) if self._name in names else hint

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """A parameter."""
        node.annotation = self._quoted(node.annotation)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """A function, for what it returns."""
        node.returns = self._quoted(node.returns)
        self.generic_visit(node)
        return node


def _is_future(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _names_that_can_wait(tree: ast.Module, path: Path, name: str) -> set[str]:
    """The names that one statement binds, which may wait, and that only functions use."""
    times = Counter(_all_bound(tree))
    can = set()
    passed_on = set()
    for statement in tree.body:
        bound = _bound(statement)
        listed = (name, bound) in VARIABLES
        imported = not isinstance(statement, ast.Assign) and not _is_beside(path, bound)
        if bound and times[bound] == 1 and (imported or listed):
            can.add(bound)
            if _is_passed_on(statement, path):
                passed_on.add(bound)
    if name in UNSEEN:
        return can & UNSEEN[name]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if not LOOKS.isdisjoint({*used, *times}):
        return set()
    rest = [it for it in tree.body if _bound(it) not in can]
    return (can & (used | passed_on)) - {*_used_at_import(rest)}


def _all_bound(tree: ast.Module) -> Iterator[str]:
    """Each name that is bound in any scope, as often as it is; `global` announces that it is."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (each.asname or each.name.partition(".")[0] for each in aliases)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name
            case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.Global(names=names):
                yield from names * 2


def _is_beside(path: Path, name: str) -> bool:
    """Whether a package has a submodule of this name, which would take its place."""
    folder = path.parent
    here = path.name == "__init__.py"
    return here and ((folder / name).is_dir() or (folder / f"{name}.py").is_file())


def _is_passed_on(statement: ast.stmt, path: Path) -> bool:
    """Whether an import is there so that others can import the name from this module."""
    match statement:
        case ast.ImportFrom(names=[alias], level=level):
            return alias.asname == alias.name or (path.name == "__init__.py" and bool(level))
    return False


def _used_at_import(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The names that importing a module uses, and those in its functions' annotations."""
    for node in nodes:
        match node:
            case ast.Name(id=name):
                yield name
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                pass
            case ast.Constant(value=str(text)):
                yield from _used_in_text(text)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _used_at_import([*node.decorator_list, node.args])
                yield from _used_at_import([node.returns] if node.returns else [])
            case _:
                yield from _used_at_import(ast.iter_child_nodes(node))


def _used_in_text(text: str) -> Iterator[str]:
    """The names in what may be an annotation in quotes."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return
    yield from (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def _loader(name: str, bound: str, statement: ast.stmt) -> ast.stmt:
    """A function that does what the statement does, and returns what it binds."""
    first, last = _parsed(f"global {bound}")[0], ast.Return(ast.Name(bound, ast.Load()))
    arguments = ast.arguments([], [], None, [], [], None, [])
    return ast.FunctionDef(name, arguments, [first, statement, last], [])


class _LoadWhereUsed(ast.NodeTransformer):
    """Replaces names in functions by what imports them, if nobody has done so yet.

    Args:
        loaders: the names of the functions that import, by the names that they bind.
    """

    def __init__(self, loaders: dict[str, str]) -> None:
        self._loaders = loaders

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """A name, wherever it is used."""
        if node.id not in self._loaders:
            return node
        text = f"{node.id} if {node.id!r} in globals() else {self._loaders[node.id]}()"
        new = ast.parse(text, mode="eval").body
        for each in ast.walk(new):
            ast.copy_location(each, node)
        return new


def _beginning(statements: list[ast.stmt]) -> int:
    """How many statements are a module's docstring and its imports from `__future__`."""
    count = 0
    for statement in statements:
        text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not text and not _is_future(statement):
            break
        count += 1
    return count
