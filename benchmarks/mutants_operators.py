"""Small faults for mutation testing: every mutant of a source text that these operators make.

A mutant is the text with one expression or statement replaced. Docstrings, annotations, imports and what is raised are
left alone: no test is meant to read them.
"""

from __future__ import annotations

import ast
import copy
import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div, ast.Add), ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,), ast.Mod: (ast.Mult,), ast.Pow: (ast.Mult,), ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
}  # fmt: skip
ORDERED = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult)
"""Operators whose operands cannot be swapped for nothing."""
PAIRS = (
    ("min", "max"), ("minimum", "maximum"), ("sum", "mean"), ("log", "log1p"), ("exp", "expm1"), ("any", "all"),
    ("exp_", "expm1_"), ("add_", "sub_"), ("mul_", "div_"), ("tanh_", "sigmoid_"), ("zeros", "ones"),
    ("zeros_like", "ones_like"), ("new_zeros", "new_ones"), ("sigmoid", "tanh"), ("square", "abs"),
    ("square_", "abs_"), ("cumsum", "cumprod"),
)  # fmt: skip
ONE_WAY = {"logsigmoid": "relu", "relu": "abs", "softmax": "log_softmax", "logsumexp": "amax", "fsum": "sum"}
OTHER_NAME = dict(PAIRS) | {b: a for a, b in PAIRS} | ONE_WAY
CLAMPS = ("clamp", "clip")
LEFT_ALONE = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Mutant:
    """One fault: the file's name, the line, which operator made it, and the whole text with it."""

    file: str
    line: int
    operator: str
    text: str

    def diff(self, original: str) -> str:
        """What it changes, as a unified diff without context."""
        lines = difflib.unified_diff(original.splitlines(), self.text.splitlines(), self.file, self.file, "", "", 0, "")
        return "\n".join(list(lines)[2:])


def mutants(file: str, source: str) -> list[Mutant]:
    """All mutants of a file, each once, in the order of their places."""
    tree, found = ast.parse(source), {ast.dump(ast.parse(source)): ""}
    made = []
    for node in _visited(tree):
        for operator, place, text in _mutations(node):
            changed = _spliced(source, place, text)
            same = ast.dump(ast.parse(changed))
            if same not in found:
                found[same] = operator
                made.append(Mutant(file, node.lineno, operator, changed))
    return sorted(made, key=lambda one: one.line)


def _visited(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Every expression and statement that may be mutated, from the outside in."""
    if isinstance(node, LEFT_ALONE) and not isinstance(node, ast.Raise):
        return
    if isinstance(node, (ast.expr, ast.stmt)):
        yield node
    if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return  # a raise may be taken out, and a docstring is not code
    for name, field in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list", "bases"):
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST):
                    yield from _visited(child)


def _spliced(source: str, node: ast.expr | ast.stmt, text: str) -> str:
    """The source with the node's text replaced; ast counts columns in bytes."""
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: (node.end_lineno or node.lineno) - 1])) + (node.end_col_offset or 0)
    whole = b"".join(lines)
    return (whole[:start] + text.encode() + whole[end:]).decode()


def _mutations(node: ast.expr | ast.stmt) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    """(operator, what is replaced, by what) of one node, by its kind."""
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield "condition turned", node.test, f"(not ({ast.unparse(node.test)}))"
    make = _OF.get(type(node))
    for operator, changed in make(node) if make else ():
        text = ast.unparse(ast.fix_missing_locations(changed))
        yield operator, node, f"({text})" if isinstance(changed, _LOOSE) and isinstance(node, ast.expr) else text


_LOOSE = (ast.BinOp, ast.BoolOp, ast.Compare, ast.UnaryOp, ast.IfExp)
Made = Iterator[tuple[str, ast.AST]]


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.deepcopy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _compare(node: ast.Compare) -> Made:
    for at, one in enumerate(node.ops):
        for other in COMPARISONS[type(one)]:
            yield "comparison", _with(node, ops=[*node.ops[:at], other(), *node.ops[at + 1 :]])


def _binary(node: ast.BinOp) -> Made:
    for other in ARITHMETIC.get(type(node.op), ()):
        yield "arithmetic", _with(node, op=other())
    if isinstance(node.op, ORDERED):
        yield "operands swapped", _with(node, left=node.right, right=node.left)
    yield "left operand alone", node.left
    yield "right operand alone", node.right


def _boolean(node: ast.BoolOp) -> Made:
    yield "and, or", _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    for at in range(len(node.values)):
        rest = node.values[:at] + node.values[at + 1 :]
        yield "condition left out", rest[0] if len(rest) == 1 else _with(node, values=rest)


def _unary(node: ast.UnaryOp) -> Made:
    yield "sign", node.operand


def _constant(node: ast.Constant) -> Made:
    value = node.value
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, (int, float)):
        for other in dict.fromkeys((value + 1, 2 * value, type(value)(0))):
            yield "constant", ast.Constant(other)


def _call(node: ast.Call) -> Made:
    named = node.func
    name = named.attr if isinstance(named, ast.Attribute) else named.id if isinstance(named, ast.Name) else ""
    if name in OTHER_NAME:
        key = "attr" if isinstance(named, ast.Attribute) else "id"
        yield f"{name} to {OTHER_NAME[name]}", _with(node, func=_with(named, **{key: OTHER_NAME[name]}))
    module = isinstance(named, ast.Attribute) and isinstance(named.value, ast.Name) and named.value.id in _MODULES
    if isinstance(named, ast.Attribute) and not module:
        yield f"without {name}()", named.value  # detach, clamp, double, square and so on
    elif node.args and not isinstance(node.args[0], ast.Starred):
        yield f"without {name}()", node.args[0]
    for at in range(len(node.args) - 1):
        swapped = [*node.args[:at], node.args[at + 1], node.args[at], *node.args[at + 2 :]]
        yield "arguments swapped", _with(node, args=swapped)
    for at, one in enumerate(node.keywords):
        yield f"without {one.arg}=", _with(node, keywords=node.keywords[:at] + node.keywords[at + 1 :])
        if name in CLAMPS and one.arg in ("min", "max"):
            other = ast.keyword("max" if one.arg == "min" else "min", one.value)
            yield "bound turned", _with(node, keywords=[*node.keywords[:at], other, *node.keywords[at + 1 :]])
    if name in CLAMPS:
        for at in range(len(node.args)):
            if at or not module:
                free = [*node.args[:at], ast.Constant(None), *node.args[at + 1 :]]
                yield "bound left out", _with(node, args=free)


_MODULES = ("torch", "math", "itertools")


def _if_expression(node: ast.IfExp) -> Made:
    yield "one branch alone", node.body
    yield "one branch alone", node.orelse


def _slice(node: ast.Slice) -> Made:
    for name in ("lower", "upper"):
        if getattr(node, name) is not None:
            yield "slice without a bound", _with(node, **{name: None})


def _return(node: ast.Return) -> Made:
    value = node.value
    if isinstance(value, ast.Tuple) and len(value.elts) > 1 and not isinstance(value.elts[0], ast.Starred):
        swapped = [value.elts[1], value.elts[0], *value.elts[2:]]
        yield "returned values swapped", ast.Return(ast.Tuple(swapped, ast.Load()))
    elif isinstance(value, (ast.BinOp, ast.Call, ast.UnaryOp, ast.Name)):
        yield "returned value negated", ast.Return(ast.UnaryOp(ast.USub(), value))
        yield "returned value zero", ast.Return(ast.BinOp(ast.Constant(0), ast.Mult(), value))


def _taken_out(node: ast.stmt) -> Made:
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        yield "statement left out", ast.Pass()


def _augmented(node: ast.AugAssign) -> Made:
    yield from _taken_out(node)
    for other in ARITHMETIC.get(type(node.op), ()):
        yield "arithmetic", _with(node, op=other())


_OF: dict[type, Callable[..., Made]] = {
    ast.Compare: _compare, ast.BinOp: _binary, ast.BoolOp: _boolean, ast.UnaryOp: _unary, ast.Constant: _constant,
    ast.Call: _call, ast.IfExp: _if_expression, ast.Slice: _slice, ast.Return: _return, ast.Expr: _taken_out,
    ast.Raise: _taken_out, ast.AugAssign: _augmented,
}  # fmt: skip
