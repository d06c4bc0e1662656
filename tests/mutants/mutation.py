"""The mutants of a module: its syntax tree with one place changed."""

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
}
"""Not `/`, which joins paths, nor `|`, which joins types."""

_TOLD = {"debug", "info", "warning", "error", "exception", "say", "_say"}
"""Calls whose words are for people; no decision hangs on them."""
_UNCHANGED_KEYWORDS = {"strict", "indent", "ensure_ascii", "stacklevel"}


@dataclass(frozen=True)
class Mutant:
    """One change of a module. `name` stays the same when other lines of the module change."""

    name: str
    lines: range
    """The lines of the statement, without those of its body."""
    _tree: ast.Module
    _node: ast.AST
    _changed: ast.AST

    def tree(self) -> ast.Module:
        """Return the module with the change."""
        changed = copy.deepcopy(ast.copy_location(self._changed, self._node))
        return ast.fix_missing_locations(copy.deepcopy(self._tree, {id(self._node): changed}))


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of the source, in the order of its lines."""
    tree, lines = ast.parse(source), source.splitlines()
    found: list[tuple[_Place, Change]] = []
    for place in _places(tree):
        found += ((place, change) for change in _changes(place))
    found.sort(key=lambda each: (each[0].node.lineno, each[0].node.col_offset))
    names: Counter[str] = Counter()
    return [
        Mutant(
            _numbered(f"{place.within}: {lines[place.node.lineno - 1].strip()} [{said}]", names),
            _lines_of(place.statement),
            tree,
            place.node,
            changed,
        )
        for place, (said, changed) in found
    ]


def _numbered(name: str, names: Counter[str]) -> str:
    """Return a name of its own for the second of two equal changes of equal lines."""
    names[name] += 1
    return name if names[name] == 1 else f"{name} #{names[name]}"


def _lines_of(statement: ast.stmt) -> range:
    end = statement.end_lineno or statement.lineno
    body = getattr(statement, "body", None)
    return range(statement.lineno, (body[0].lineno if body else end + 1))


@dataclass(frozen=True)
class _Place:
    node: ast.stmt | ast.expr
    statement: ast.stmt
    """The one that holds the node, or is it."""
    within: str
    """The function or class around it."""
    is_condition: bool


def _places(tree: ast.Module) -> Iterator[_Place]:
    """Yield the nodes that a change could matter in."""
    todo: list[tuple[ast.AST, ast.stmt | None, str]] = [(tree, None, "")]
    while todo:
        node, statement, within = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = f"{within}.{node.name}".lstrip(".")
        for child, is_condition in _looked_into(node):
            around = child if isinstance(child, ast.stmt) else statement
            if isinstance(child, ast.stmt | ast.expr) and around is not None:
                yield _Place(child, around, within or "module", is_condition)
            todo.append((child, around, within))


def _looked_into(node: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """Yield the children that count, and whether each decides what runs next."""
    if _is_for_people(node):
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_left_out(child):
                yield child, field in ("test", "ifs")


def _is_for_people(node: ast.AST) -> bool:
    """Return whether a node holds words and no decision: an error's text, a log line."""
    if isinstance(node, ast.Raise | ast.JoinedStr):
        return True
    if isinstance(node, ast.Call):
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        return name in _TOLD
    return False


def _is_left_out(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.keyword):
        return node.arg in _UNCHANGED_KEYWORDS
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) in ("model_config", "__all__")
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


Change = tuple[str, ast.AST]
"""What the change is called, and the node that takes the place of the other."""


def _changes(place: _Place) -> Iterator[Change]:
    node = place.node
    if isinstance(node, ast.Compare):
        yield from _compared(node)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield _change(node, ast.BoolOp(other, node.values))
    elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        yield _change(node, ast.BinOp(node.left, _COMPUTED[type(node.op)](), node.right))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _change(node, node.operand)
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.Raise):
        yield "no raise", ast.Pass()
    elif isinstance(node, ast.Return) and not _is_none(node.value):
        yield "return None", ast.Return(ast.Constant(None))
    if place.is_condition and not isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp):
        yield _change(node, ast.UnaryOp(ast.Not(), node))


def _compared(node: ast.Compare) -> Iterator[Change]:
    for at, operator in enumerate(node.ops):
        for other in _COMPARED[type(operator)]:
            ops = [*node.ops[:at], other(), *node.ops[at + 1 :]]
            yield _change(node, ast.Compare(node.left, ops, node.comparators))


def _constants(node: ast.Constant) -> Iterator[Change]:
    if isinstance(node.value, bool):
        yield _change(node, ast.Constant(not node.value))
    elif isinstance(node.value, int | float):
        yield _change(node, ast.Constant(node.value + 1))


def _change(before: ast.expr, after: ast.expr) -> Change:
    return f"{ast.unparse(before)} => {ast.unparse(after)}", after


def _is_none(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and node.value is None)
