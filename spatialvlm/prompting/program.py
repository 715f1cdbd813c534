"""Small programs over a scene graph, worked out by walking their syntax tree: nothing is ever executed.

    run("len(filter(objects, color='red'))", graph)      # Ran("ran", 2)

What may stand in a program is listed here, everything else is refused: assignments to names, expressions of
numbers, texts, lists, dicts, arithmetic, comparison, `and`, `or`, `not`, `if` expressions, comprehensions,
indexing, and calls of `program_functions.FUNCTIONS`. There are no attributes, imports, definitions or
statements that loop. Every step and every item that is made or looked at is paid for out of one budget, and
numbers, texts and lists have a greatest size, so that a program ends within a fraction of a second and a few
MB, whatever it says.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from spatialvlm.prompting.program_functions import (
    BUDGET,
    FUNCTIONS,
    Meter,
    Refused,
    Stopped,
)

__all__ = ["FUNCTIONS", "Ran", "run", "to_answer"]

MAX_SOURCE, MAX_NODES, MAX_DEPTH, MAX_BRACKETS = 4_000, 800, 40, 30
_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY = {ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Not: operator.not_}
_COMPARED = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, held: item in held,
    ast.NotIn: lambda item, held: item not in held,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


@dataclass(frozen=True)
class Ran:
    """What became of a program: its value where it `ran`.

    `refused`: it holds something that is not allowed, or is no program. `stopped`: it took too many steps or
    made something too large. `failed`: an error of its own, such as a missing key or a division by zero.
    """

    status: Literal["ran", "refused", "stopped", "failed"]
    value: Any = None
    message: str = ""


def run(source: str, graph: dict[str, Any] | list[Any]) -> Ran:
    """The value of a program's last line, an expression or an assignment.

    Args:
        graph: bound to the name `graph`; its `objects` and `relations` have names of their own.
    """
    whole = graph if isinstance(graph, dict) else {"objects": graph}
    names = {"graph": whole, "objects": whole.get("objects", []), "relations": whole.get("relations", [])}
    meter = Meter(BUDGET)
    try:
        statements = _parse(source)
        meter.look_through(whole)
        value = None
        for statement in statements:
            value = _evaluate(statement.value, names, meter)
            if isinstance(statement, ast.Assign):
                names[statement.targets[0].id] = value
        meter.look_through(value)
        return Ran("ran", value)
    except Refused as error:
        return Ran("refused", message=str(error))
    except Stopped as error:
        return Ran("stopped", message=str(error))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return Ran("failed", message=f"{type(error).__name__}: {str(error)[:200]}")


def to_answer(value: Any) -> str:
    """A program's value as an answer: yes or no, number, text, an object's name; else empty."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return value["name"]
    return ""


# ---- what may stand in a program


def _parse(source: str) -> list[ast.Assign | ast.Expr]:
    if len(source) > MAX_SOURCE:
        raise Refused(f"longer than {MAX_SOURCE} characters")
    if _nesting(source) > MAX_BRACKETS:
        raise Refused(f"brackets nested more than {MAX_BRACKETS} deep")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise Refused(f"no program: {type(error).__name__}") from None
    _check_size(tree)
    if not tree.body:
        raise Refused("no program: empty")
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            if len(statement.targets) != 1 or not isinstance(statement.targets[0], ast.Name):
                raise Refused("an assignment to something other than one name")
            _check_name(statement.targets[0].id)
            if statement.targets[0].id in FUNCTIONS:
                raise Refused(f"{statement.targets[0].id} is a function")
        elif not isinstance(statement, ast.Expr):
            raise Refused(f"{type(statement).__name__} is not allowed")
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and type(node) not in _EVALUATE:
            raise Refused(f"{type(node).__name__} is not allowed")
        if isinstance(node, ast.Name):
            _check_name(node.id)
        if isinstance(node, ast.Call):
            _check_call(node)
        if isinstance(node, ast.comprehension) and node.is_async:
            raise Refused("async is not allowed")
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str | None):
            raise Refused(f"a constant of type {type(node.value).__name__}")
    return tree.body


def _nesting(source: str) -> int:
    """How deep brackets go, in texts and comments too: the parser is not to be led into deep recursion."""
    deepest = depth = 0
    for character in source:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _check_size(tree: ast.AST) -> None:
    level, seen, depth = [tree], 0, 0
    while level:
        seen, depth = seen + len(level), depth + 1
        if seen > MAX_NODES:
            raise Refused(f"more than {MAX_NODES} parts")
        if depth > MAX_DEPTH:
            raise Refused(f"nested more than {MAX_DEPTH} deep")
        level = [child for node in level for child in ast.iter_child_nodes(node)]


def _check_name(name: str) -> None:
    if (name.startswith("_") and name != "_") or len(name) > 50:
        raise Refused(f"the name {name[:50]}")


def _check_call(node: ast.Call) -> None:
    if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
        called = node.func.id if isinstance(node.func, ast.Name) else type(node.func).__name__
        raise Refused(f"a call of {called}")
    if any(keyword.arg is None for keyword in node.keywords):
        raise Refused("** in a call")


# ---- what it comes to


def _evaluate(node: ast.expr, names: dict[str, Any], meter: Meter) -> Any:
    meter.pay(1)
    return meter.fits(_EVALUATE[type(node)](node, names, meter))


def _name(node: ast.Name, names: dict[str, Any], meter: Meter) -> Any:
    if node.id not in names:
        raise LookupError(f"the name {node.id} has no value")
    return names[node.id]


def _binary(node: ast.BinOp, names: dict[str, Any], meter: Meter) -> Any:
    compute = _BINARY.get(type(node.op))
    if compute is None:
        raise Refused(f"{type(node.op).__name__} is not allowed")
    left, right = _evaluate(node.left, names, meter), _evaluate(node.right, names, meter)
    numbers = all(isinstance(side, int | float) for side in (left, right))
    if not numbers:
        joined = isinstance(node.op, ast.Add) and type(left) is type(right) and isinstance(left, str | list)
        if not joined:  # 'a' * 10**9 and '%999999999d' % 1 are no arithmetic
            raise TypeError(f"{type(node.op).__name__} of {type(left).__name__} and {type(right).__name__}")
        meter.pay(len(left) + len(right))
    elif isinstance(node.op, ast.Pow) and abs(right) > 64:
        raise Stopped("a power above 64")
    return compute(left, right)


def _unary(node: ast.UnaryOp, names: dict[str, Any], meter: Meter) -> Any:
    compute = _UNARY.get(type(node.op))
    if compute is None:
        raise Refused(f"{type(node.op).__name__} is not allowed")
    return compute(_evaluate(node.operand, names, meter))


def _boolean(node: ast.BoolOp, names: dict[str, Any], meter: Meter) -> Any:
    value = None
    for part in node.values:
        value = _evaluate(part, names, meter)
        if bool(value) == isinstance(node.op, ast.Or):
            break
    return value


def _compare(node: ast.Compare, names: dict[str, Any], meter: Meter) -> bool:
    left = _evaluate(node.left, names, meter)
    for sign, part in zip(node.ops, node.comparators, strict=True):
        right = _evaluate(part, names, meter)
        meter.look_through(left)  # a list that holds another one twice, and so on, is longer than it looks
        meter.look_through(right)
        if not _COMPARED[type(sign)](left, right):
            return False
        left = right
    return True


def _choose(node: ast.IfExp, names: dict[str, Any], meter: Meter) -> Any:
    return _evaluate(node.body if _evaluate(node.test, names, meter) else node.orelse, names, meter)


def _list(node: ast.List | ast.Tuple, names: dict[str, Any], meter: Meter) -> list[Any]:
    return [_evaluate(item, names, meter) for item in node.elts]


def _dict(node: ast.Dict, names: dict[str, Any], meter: Meter) -> dict[Any, Any]:
    if None in node.keys:
        raise Refused("** in a dict")
    pairs = zip(node.keys, node.values, strict=True)
    return {_evaluate(key, names, meter): _evaluate(value, names, meter) for key, value in pairs}


def _index(node: ast.Subscript, names: dict[str, Any], meter: Meter) -> Any:
    held = _evaluate(node.value, names, meter)
    if isinstance(node.slice, ast.Slice):
        ends = [part and _evaluate(part, names, meter) for part in (node.slice.lower, node.slice.upper)]
        if node.slice.step:
            raise Refused("a step in a slice")
        meter.pay(len(held))
        return held[ends[0] : ends[1]]
    return held[_evaluate(node.slice, names, meter)]


def _slice_alone(node: ast.Slice, names: dict[str, Any], meter: Meter) -> Any:
    raise Refused("a slice among other indices")  # one that stands alone is evaluated by `_index`


def _call(node: ast.Call, names: dict[str, Any], meter: Meter) -> Any:
    function: Callable[..., Any] = FUNCTIONS[node.func.id]
    values = [_evaluate(each, names, meter) for each in node.args]
    named = {keyword.arg: _evaluate(keyword.value, names, meter) for keyword in node.keywords}
    for value in (*values, *named.values()):
        meter.look_through(value)
    return function(meter, *values, **named)


def _comprehension(node: ast.ListComp | ast.GeneratorExp, names: dict[str, Any], meter: Meter) -> list[Any]:
    found: list[Any] = []

    def walk(number: int, names: dict[str, Any]) -> None:
        if number == len(node.generators):
            found.append(_evaluate(node.elt, names, meter))
            meter.fits(found)
            return
        part = node.generators[number]
        items = _evaluate(part.iter, names, meter)
        if not isinstance(items, list | str):
            raise TypeError(f"{type(items).__name__} cannot be gone through")
        for item in items:
            meter.pay(1)
            inner = names | _bound(part.target, item)
            if all(_evaluate(condition, inner, meter) for condition in part.ifs):
                walk(number + 1, inner)

    walk(0, names)
    return found


def _bound(target: ast.expr, item: Any) -> dict[str, Any]:
    """The names that a comprehension binds: one, or as many as the item has parts."""
    if isinstance(target, ast.Name):
        return {target.id: item}
    if not isinstance(target, ast.Tuple) or not all(isinstance(part, ast.Name) for part in target.elts):
        raise Refused("a comprehension over something other than names")
    if not isinstance(item, list) or len(item) != len(target.elts):
        raise ValueError("an item that does not fall into these names")
    return {part.id: value for part, value in zip(target.elts, item, strict=True)}


_EVALUATE: dict[type, Callable[[Any, dict[str, Any], Meter], Any]] = {
    ast.Constant: lambda node, names, meter: node.value,
    ast.Name: _name,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _boolean,
    ast.Compare: _compare,
    ast.IfExp: _choose,
    ast.List: _list,
    ast.Tuple: _list,
    ast.Dict: _dict,
    ast.Subscript: _index,
    ast.Slice: _slice_alone,
    ast.Call: _call,
    ast.ListComp: _comprehension,
    ast.GeneratorExp: _comprehension,
}
