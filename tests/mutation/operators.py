"""Small changes of a module's syntax tree, each of which a test should notice."""

import ast
import copy
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

_COMPARE: dict[type, tuple[type, ...]] = {
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
"""The bound moved by one, and the order turned."""
_BINARY: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
_CALLS = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "minimum": "maximum",
    "maximum": "minimum",
    "floor_": "ceil_",
    "round": "int",
    "abs": "float",
    "sorted": "list",
    "reversed": "list",
}


class Change(NamedTuple):
    """One node and what stands in its place."""

    node: ast.AST
    operator: str
    instead: ast.AST


def changes(tree: ast.Module, functions: Collection[str] = ()) -> list[Change]:
    """Every change of a module, in the order of its text; of some functions only, if named.

    Left alone: annotations, decorators, imports, docstrings, assertions, what is raised (that it is
    raised is not) and the words of f-strings.
    """
    tops: list[ast.stmt] = tree.body
    if functions:
        tops = [
            node for node in tops if isinstance(node, ast.FunctionDef) and node.name in functions
        ]
    found = [change for top in tops for node in _code(top) for change in _of(node)]
    return sorted(found, key=lambda change: (change.node.lineno, change.node.col_offset))  # type: ignore[attr-defined]


def apply(tree: ast.Module, change: Change) -> ast.Module:
    """``tree``, which is altered, with the change made."""

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            if node is change.node:
                return ast.copy_location(change.instead, node)
            return self.generic_visit(node)

    changed: ast.Module = ast.fix_missing_locations(Replace().visit(tree))
    return changed


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may be changed, from the outside in."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("Literal", "NamedTuple"):
        return
    yield node
    if isinstance(node, ast.Raise):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "keywords") and not (
            isinstance(node, ast.Call)
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant):
                continue
            if isinstance(child, ast.AST) and name != "format_spec":
                yield from _code(child)


def _of(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                for other in _COMPARE[type(op)]:
                    ops = [*node.ops[:i], other(), *node.ops[i + 1 :]]
                    yield _with(node, "comparison", ops=ops)
        case ast.BinOp() | ast.AugAssign():
            yield _with(node, "arithmetic", op=_BINARY[type(node.op)]())
        case ast.BoolOp():
            yield _with(node, "and/or", op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.UnaryOp():
            yield Change(node, "sign/not", copy.deepcopy(node.operand))
        case ast.Constant():
            for value in _other_values(node.value):
                yield _with(node, "constant", value=value)
        case ast.Slice():
            for part in ("lower", "upper", "step"):
                if getattr(node, part) is not None:
                    yield _with(node, "slice", **{part: None})
        case ast.Call(func=ast.Name(id=name)) if name in _CALLS:
            yield _with(node, "call", func=ast.Name(_CALLS[name], ast.Load()))
        case ast.Call(func=ast.Attribute(attr=name)) if name in _CALLS:
            yield _with(node, "call", func=_with(node.func, "", attr=_CALLS[name]).instead)
        case ast.Continue():
            yield Change(node, "loop", ast.Break())
        case ast.Break():
            yield Change(node, "loop", ast.Continue())
    yield from _conditions(node)
    if _is_step(node):
        yield Change(node, "statement left out", ast.Pass())


def _other_values(value: object) -> tuple[object, ...]:
    match value:
        case bool():
            return (not value,)
        case int():
            return value + 1, value - 1
        case float():
            return (value / 2 if value else 1.0,)
        case str():
            return (value + "_",)
    return ()


def _conditions(node: ast.AST) -> Iterator[Change]:
    """The other branch, where nothing smaller in the condition says so."""
    tests = [*node.ifs] if isinstance(node, ast.comprehension) else []
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        tests = [node.test]
    for test in tests:
        plain = not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant)
        if plain:
            turned = ast.UnaryOp(ast.Not(), copy.deepcopy(test))
            yield Change(test, "condition", turned)


def _is_step(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Subscript | ast.Attribute) for target in node.targets)
    called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    return called or isinstance(node, ast.AugAssign | ast.Raise)


def _with(node: Any, operator: str, **fields: object) -> Change:
    changed = copy.deepcopy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return Change(node, operator, changed)
