"""What evalset can say when something is wrong, as its code has it."""

import ast
import re
from collections.abc import Iterable, Iterator

from tests.docs.page import ROOT

# Fewer words than these are a label, or glue between two parts of a message.
SENTENCE = 4
# `evalset ... --help` shows what these arguments and this table hold.
HELP = {"help", "epilog", "short_help", "metavar", "description", "notes"}
# Whatever these are called with is said, be it ever so short.
SAYING = {
    "BadParameter",
    "Cut",
    "UsageError",
    "__init__",
    "_failure",
    "_lost",
    "_warn",
    "warn",
    "print_warning",
}
# What this room has besides errors lays out results; docs/report.md shows what that looks like.
RESULTS = "runner/report"
# It is evals' code, which says what its user wants.
TEMPLATE = "runner/template"

# Of these, each part is as much said as the whole.
TOGETHER = (ast.BinOp, ast.BoolOp, ast.IfExp, ast.keyword)

FIELD = "\0"
SHELL_FIELD = re.compile(r"\$\([^()]*\)|\$\{[^}]*\}|\$\w+|\$[#?@]")


def in_runner() -> set[str]:
    """The sentences in the code of the package, `...` for each field."""
    paths = sorted(
        path for path in (ROOT / "runner").rglob("*.py") if not path.is_relative_to(ROOT / TEMPLATE)
    )
    texts = [
        path.read_text()
        for path in paths
        if not path.is_relative_to(ROOT / RESULTS) or "runner.errors" in path.read_text()
    ]
    modules = [ast.parse(text) for text in texts]
    saying = SAYING | {name for module in modules for name in error_names(module)}
    return {text for module in modules for text in sentences(module, saying)}


def in_scripts() -> set[str]:
    """What the scripts of a clone say before they fail."""
    found: set[str] = set()
    for path in sorted((ROOT / "scripts").iterdir()):
        text = SHELL_FIELD.sub(FIELD, path.read_text())
        said = re.findall(r'fail "([^"]+)"|echo "\w[\w-]*: ([^"]+)" >&2', text)
        found |= {shown("".join(each).replace("\\`", "`")) for each in said} - {"..."}
    return found


def in_workflows() -> set[str]:
    """What the workflows mark as an error."""
    text = (ROOT / ".github/workflows/evalset.yml").read_text()
    return {
        shown(re.sub(r'" \\\s*"', " ", said))
        for said in re.findall(r'"::error::((?:[^"]|" \\\s*")+)"', SHELL_FIELD.sub(FIELD, text))
    }


def in_pages() -> set[str]:
    """What the scripts of a report's pages say."""
    found: set[str] = set()
    for path in sorted((ROOT / "runner/report/site/assets").glob("*.js")):
        for line in re.findall(r"(?:textContent = |new Error\()(.+)", path.read_text()):
            said = re.findall(r'"([^"]+)"|`([^`]+)`', line)
            texts = [shown(re.sub(r"\$\{[^}]*\}", FIELD, "".join(each))) for each in said]
            found |= {each for each in texts if words(each) > 1}
    return found


def error_names(module: ast.Module) -> Iterator[str]:
    """The exceptions that a module defines."""
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef) and any(
            ast.unparse(base).endswith(("Exception", "Error", "Fault")) for base in node.bases
        ):
            yield node.name


def sentences(module: ast.AST, saying: set[str]) -> set[str]:
    """The texts in a module that are long enough, or are said however short they are."""
    sentences = _Sentences(saying)
    sentences.visit(module)
    return sentences.found


class _Sentences(ast.NodeVisitor):
    def __init__(self, saying: set[str]) -> None:
        self._saying = saying
        self._said = False
        self.found: set[str] = set()

    def _visit(self, nodes: Iterable[ast.AST], *, said: bool) -> None:
        outside, self._said = self._said, said
        for node in nodes:
            self.visit(node)
        self._said = outside

    def generic_visit(self, node: ast.AST) -> None:
        self._visit(ast.iter_child_nodes(node), said=self._said and isinstance(node, TOGETHER))

    def visit_Compare(self, node: ast.Compare) -> None:
        """Skip the signs that others' messages are known by."""

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in HELP:
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if ast.unparse(node.targets[0]) not in HELP:
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit([node.value] if node.value else [], said=False)  # its type may be quoted

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if ast.unparse(node.value) != "Annotated":  # an option, which the help shows
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        if called == "evalset_command":  # whose first argument is an example, which the help shows
            node = ast.Call(node.func, node.args[1:], node.keywords)
        if called.rpartition(".")[2] in self._saying and len(node.args) == 2:  # what, and the cure
            node = ast.Call(node.func, [joined(*node.args)], node.keywords)
        if not called.startswith("re."):
            said = called.rpartition(".")[2] in self._saying
            self._visit([node.func], said=False)
            self._visit([*node.args, *node.keywords], said=said)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and "\n" not in node.value:  # a message is one line
            self._add(re.sub(r"\{[a-z_]+(?:![rs])?\}", FIELD, node.value))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        parts = [part.value if isinstance(part, ast.Constant) else FIELD for part in node.values]
        self._add("".join(map(str, parts)))
        fields = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        self._visit(fields, said=False)

    def _add(self, text: str) -> None:
        if " " in text and words(text) >= (1 if self._said else SENTENCE):
            self.found.add(shown(text))


def joined(what: ast.expr, cure: ast.expr) -> ast.JoinedStr:
    """An error's message, as it puts it together."""

    def parts(text: ast.expr) -> list[ast.expr]:
        if isinstance(text, ast.JoinedStr):
            return text.values
        return [text if isinstance(text, ast.Constant) else ast.FormattedValue(text, -1, None)]

    return ast.JoinedStr([*parts(what), ast.Constant("; "), *parts(cure)])


def words(text: str) -> int:
    """How many words a text has."""
    return len(re.findall(r"[A-Za-z][\w'-]*", text))


def shown(text: str) -> str:
    """A text as pages show it, without the punctuation that ties it to another."""
    text = re.sub(rf"[.{FIELD}]*{FIELD}[.{FIELD}]*", "...", " ".join(text.split()))
    return re.sub(r"^[;:,] *", "", text)
