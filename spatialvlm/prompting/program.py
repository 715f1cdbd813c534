"""Evaluator of small programs over a scene graph: it walks their syntax tree and executes nothing.

    run("len(filter(objects, color='red'))", graph)      # Result("ran", 2)

A program may hold assignments to names and expressions of numbers, texts, lists, dicts, arithmetic,
comparison, `and`, `or`, `not`, `if`, comprehensions, indexing and calls of `FUNCTIONS`; all else is refused.
Every step, and every item made or inspected, is paid for out of one budget, and numbers, texts and lists have
a maximum size, so that any program ends within a fraction of a second and a few MB.

No library does this as safely: simpleeval 1.0.8 (the closest) runs 42 of the 232 hostile programs in
tests/prompting/test_program.py, seven more exhaust a second or 2 GB, and it evaluates one statement only.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

MAX_SOURCE, MAX_NODES, MAX_DEPTH, MAX_BRACKETS = 4_000, 800, 40, 30
BUDGET = 50_000  # steps, and items made or inspected
MAX_POWER = 64
MAX_LEVELS = 20  # of lists in lists
# Types of values, with the largest integer or number of items.
MAX_SIZE = {int: 2**63, str: 4_000, list: 2_000, dict: 2_000, float: None, bool: None, type(None): None}

_SUMS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.UAdd: operator.pos, ast.USub: operator.neg}
_PRODUCTS = {ast.Mult: operator.mul, ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv}
_PRODUCTS |= {ast.Mod: operator.mod, ast.Pow: operator.pow}
_ORDER = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}
_EQUALITY = {ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Is: operator.is_, ast.IsNot: operator.is_not}
_OTHER = {ast.Not: operator.not_, ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b}
_OPERATORS: dict[type, Callable[..., Any]] = _SUMS | _PRODUCTS | _ORDER | _EQUALITY | _OTHER


class Refused(Exception):
    """Something that is not allowed."""


class Stopped(Exception):
    """Too many steps, or something too large."""


@dataclass(frozen=True)
class Result:
    """Outcome of a program, with its value where it `ran`.

    `refused`: it holds something that is not allowed, or is no program. `stopped`: it took too many steps or
    made something too large. `failed`: an error of its own, such as a missing key or a division by zero.
    """

    status: Literal["ran", "refused", "stopped", "failed"]
    value: Any = None
    message: str = ""


def run(source: str, graph: dict[str, Any] | list[Any]) -> Result:
    """Evaluate a program; its value is that of the last line, an expression or an assignment.

    Args:
        graph: bound to the name `graph`; its `objects` and `relations` have names of their own.
    """
    whole = graph if isinstance(graph, dict) else {"objects": graph}
    names = {"graph": whole, "objects": whole.get("objects", []), "relations": whole.get("relations", [])}
    evaluator = _Evaluator(names)
    try:
        statements = _parse(source)
        evaluator.inspect(whole)
        value = None
        for statement in statements:
            value = evaluator.visit(statement.value)
            if isinstance(statement, ast.Assign):
                names[statement.targets[0].id] = value
        evaluator.inspect(value)
        return Result("ran", value)
    except Refused as error:
        return Result("refused", message=str(error))
    except Stopped as error:
        return Result("stopped", message=str(error))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return Result("failed", message=f"{type(error).__name__}: {str(error)[:200]}")


def to_answer(value: Any) -> str:
    """Return a program's value as an answer: yes or no, number, text, an object's name; else empty."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return value["name"]
    return ""


# ---- what a program may hold


def _parse(source: str) -> list[ast.Assign | ast.Expr]:
    if len(source) > MAX_SOURCE:
        raise Refused(f"longer than {MAX_SOURCE} characters")
    depth = 0
    for character in source:  # brackets in texts and comments count too: the parser must not recurse deeply
        depth += (character in "([{") - (character in ")]}")
        if depth > MAX_BRACKETS:
            raise Refused(f"brackets nested more than {MAX_BRACKETS} deep")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise Refused(f"no program: {type(error).__name__}") from None
    level, nodes, depth = [tree], 0, 0
    while level:
        nodes, depth = nodes + len(level), depth + 1
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise Refused(f"more than {MAX_NODES} parts, or nested more than {MAX_DEPTH} deep")
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if not tree.body:
        raise Refused("no program: empty")
    for node in ast.walk(tree):
        _check_node(node)
    return tree.body


def _check_node(node: ast.AST) -> None:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) if name in FUNCTIONS:
            raise Refused(f"{name} is a function")
        case ast.Assign(targets=targets) if len(targets) > 1 or not isinstance(targets[0], ast.Name):
            raise Refused("an assignment to something other than one name")
        case ast.stmt() if not isinstance(node, ast.Assign | ast.Expr):
            raise Refused(f"{type(node).__name__} is not allowed")
        case ast.expr() if not hasattr(_Evaluator, f"visit_{type(node).__name__}"):
            raise Refused(f"{type(node).__name__} is not allowed")
        case ast.Name(id=name) if (name.startswith("_") and name != "_") or len(name) > 50:
            raise Refused(f"the name {name[:50]}")
        case ast.Call(func=ast.Name(id=name)) if name not in FUNCTIONS:
            raise Refused(f"a call of {name}")
        case ast.Call(func=called) if not isinstance(called, ast.Name):
            raise Refused(f"a call of {type(called).__name__}")
        case ast.Call(keywords=keywords) if any(keyword.arg is None for keyword in keywords):
            raise Refused("** in a call")
        case ast.comprehension(is_async=1):
            raise Refused("async is not allowed")
        case ast.Constant(value=value) if not isinstance(value, int | float | str | None):
            raise Refused(f"a constant of type {type(value).__name__}")


# ---- its value


class _Evaluator(ast.NodeVisitor):
    """Evaluates expressions; it has a method for each kind that a program may hold."""

    def __init__(self, names: dict[str, Any]):
        self.names, self.left = names, BUDGET

    def visit(self, node: ast.expr) -> Any:
        self.pay(1)
        return self.fits(super().visit(node))

    def pay(self, steps: int) -> None:
        """Take steps from the budget. Raises Stopped where it is used up."""
        self.left -= steps
        if self.left < 0:
            raise Stopped(f"more than {BUDGET:,} steps")

    def fits(self, value: Any) -> Any:
        """Return the value if its type and size are allowed; what it holds is not inspected."""
        kind = type(value)
        if kind not in MAX_SIZE:
            raise Refused(f"a value of type {kind.__name__}")
        largest = MAX_SIZE[kind]
        if largest is not None and (abs(value) if kind is int else len(value)) > largest:
            raise Stopped(f"{kind.__name__} too large")
        return value

    def inspect(self, value: Any, level: int = 0) -> None:
        """Pay for everything that a value holds, as often as it holds it."""
        self.pay(1)
        self.fits(value)
        if level > MAX_LEVELS:
            raise Stopped(f"lists nested more than {MAX_LEVELS} deep")
        if isinstance(value, str):
            self.pay(len(value) // 64)
        elif isinstance(value, list | dict):
            for item in [*value, *value.values()] if isinstance(value, dict) else value:
                self.inspect(item, level + 1)

    def visit_Constant(self, node: ast.Constant) -> Any:
        return node.value

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id not in self.names:
            raise LookupError(f"the name {node.id} has no value")
        return self.names[node.id]

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        op, compute = type(node.op), _operator(node.op)
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(left, int | float) and isinstance(right, int | float):
            if op is ast.Pow and abs(right) > MAX_POWER:
                raise Stopped(f"a power above {MAX_POWER}")
        elif op is ast.Add and type(left) is type(right) and isinstance(left, str | list):
            self.pay(len(left) + len(right))
        else:  # 'a' * 10**9 and '%999999999d' % 1 are no arithmetic
            raise TypeError(f"{op.__name__} of {type(left).__name__} and {type(right).__name__}")
        return compute(left, right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        return _operator(node.op)(self.visit(node.operand))

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        value = None
        for operand in node.values:
            value = self.visit(operand)
            if bool(value) == isinstance(node.op, ast.Or):
                break
        return value

    def visit_Compare(self, node: ast.Compare) -> bool:
        left = self.visit(node.left)
        for sign, operand in zip(node.ops, node.comparators, strict=True):
            right = self.visit(operand)
            self.inspect(left)  # a list that holds another one twice, and so on, is longer than it looks
            self.inspect(right)
            if not _operator(sign)(left, right):
                return False
            left = right
        return True

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        return self.visit(node.body if self.visit(node.test) else node.orelse)

    def visit_List(self, node: ast.List | ast.Tuple) -> list[Any]:
        return [self.visit(item) for item in node.elts]

    visit_Tuple = visit_List

    def visit_Dict(self, node: ast.Dict) -> dict[Any, Any]:
        if None in node.keys:
            raise Refused("** in a dict")
        return {self.visit(key): self.visit(value) for key, value in zip(node.keys, node.values, strict=True)}

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        value = self.visit(node.value)
        if not isinstance(node.slice, ast.Slice):
            return value[self.visit(node.slice)]
        lower, upper = (end and self.visit(end) for end in (node.slice.lower, node.slice.upper))
        if node.slice.step:
            raise Refused("a step in a slice")
        self.pay(len(value))
        return value[lower:upper]

    def visit_Slice(self, node: ast.Slice) -> Any:
        raise Refused("a slice among other indices")  # one that stands alone belongs to visit_Subscript

    def visit_Call(self, node: ast.Call) -> Any:
        values = [self.visit(each) for each in node.args]
        named = {keyword.arg: self.visit(keyword.value) for keyword in node.keywords}
        for value in (*values, *named.values()):
            self.inspect(value)
        if node.func.id in COSTS:
            self.pay(COSTS[node.func.id](*values, **named))
        return FUNCTIONS[node.func.id](*values, **named)

    def visit_ListComp(self, node: ast.ListComp | ast.GeneratorExp) -> list[Any]:
        found: list[Any] = []
        self._comprehend(node, 0, found)
        return found

    visit_GeneratorExp = visit_ListComp

    def _comprehend(self, node: ast.ListComp | ast.GeneratorExp, number: int, found: list[Any]) -> None:
        if number == len(node.generators):
            found.append(self.visit(node.elt))
            self.fits(found)
            return
        generator, outer = node.generators[number], self.names
        items = self.visit(generator.iter)
        if not isinstance(items, list | str):
            raise TypeError(f"{type(items).__name__} cannot be iterated over")
        for item in items:
            self.pay(1)
            self.names = outer | _bound(generator.target, item)
            if all(self.visit(condition) for condition in generator.ifs):
                self._comprehend(node, number + 1, found)
        self.names = outer


def _operator(node: ast.AST) -> Callable[..., Any]:
    if type(node) not in _OPERATORS:
        raise Refused(f"{type(node).__name__} is not allowed")
    return _OPERATORS[type(node)]


def _bound(target: ast.expr, item: Any) -> dict[str, Any]:
    """The names that a comprehension binds: one, or as many as the item has parts."""
    if isinstance(target, ast.Name):
        return {target.id: item}
    if not isinstance(target, ast.Tuple) or not all(isinstance(each, ast.Name) for each in target.elts):
        raise Refused("a comprehension over something other than names")
    if not isinstance(item, list) or len(item) != len(target.elts):
        raise ValueError("an item that does not match these names")
    return {each.id: value for each, value in zip(target.elts, item, strict=True)}


# ---- functions that a program may call; their arguments have been inspected, and so paid for


def _need(value: Any, kind: Any, words: str) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{words} is needed, not {type(value).__name__}")
    return value


def _number(value: Any) -> int | float:
    return _need(value, int | float, "a number")


def _list(*values: Any) -> list[Any]:
    """The list given, or several values as one."""
    return list(values) if len(values) != 1 else _need(values[0], list, "a list")


def _round(value: Any, digits: Any = None, /) -> int | float:
    if digits is not None and not (isinstance(digits, int) and 0 <= digits <= 15):
        raise ValueError("digits must be 0 to 15")
    return round(_number(value), digits)


def _int(value: Any, /) -> int:
    if isinstance(value, str) and len(value) > 20:
        raise ValueError("too many digits")
    return int(value)


def _unique(values: Any) -> list[Any]:
    return [value for at, value in enumerate(_list(values)) if value not in values[:at]]


def _sorted(values: Any, by: Any = None) -> list[Any]:
    """In rising order; dicts by the value of their key `by`."""
    return sorted(_list(values), key=None if by is None else lambda each: each[by])


def _has(thing: dict[str, Any], name: str, wanted: str) -> bool:
    """Whether an attribute, as a key of the object, a key of its `attributes` or a word in them, is `wanted`.

    Case does not count; `wanted` is in lower case.
    """
    attributes = thing.get("attributes")
    values = [thing.get(name)]
    values += [attributes.get(name)] if isinstance(attributes, dict) else []
    values += attributes if isinstance(attributes, list) else []
    return any(isinstance(each, str | int | float) and str(each).lower() == wanted for each in values)


def _filter(things: Any, /, **attributes: Any) -> list[dict[str, Any]]:
    if not all(isinstance(each, dict) for each in _list(things)):
        raise TypeError("a list of objects is needed")
    wanted = {name: _text(value).lower() for name, value in attributes.items()}
    return [each for each in things if all(_has(each, name, value) for name, value in wanted.items())]


def _text(value: Any) -> str:
    return str(_need(value, str | int | float, "a text or number"))  # a list's text is not paid for


def _find(things: Any, /, **attributes: Any) -> dict[str, Any]:
    found = _filter(things, **attributes)
    if len(found) != 1:
        raise LookupError(f"{len(found)} objects match, not one")
    return found[0]


def _point(thing: Any) -> list[float]:
    """Coordinates: an object's `center`, or a list."""
    place = thing.get("center") if isinstance(thing, dict) else thing
    if not isinstance(place, list) or len(place) < 2:
        raise TypeError("an object with a center is needed, or a list of coordinates")
    return [float(_number(coordinate)) for coordinate in place]


def _distance(one: Any, other: Any, /) -> float:
    return math.dist(_point(one), _point(other))


def _nearest(thing: Any, things: Any) -> dict[str, Any]:
    """The one of some objects that is nearest to an object, except itself."""
    return min(
        (each for each in _filter(things) if each is not thing), key=lambda each: _distance(thing, each)
    )


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": lambda value, /: abs(_number(value)),
    "above": lambda one, other, /: _point(one)[1] < _point(other)[1],
    "all": lambda values, /: all(_list(values)),
    "any": lambda values, /: any(_list(values)),
    "below": lambda one, other, /: _point(one)[1] > _point(other)[1],
    "count": lambda things, /, **attributes: len(_filter(things, **attributes)),
    "distance": _distance,
    "filter": _filter,
    "find": _find,
    "float": lambda value, /: float(value),
    "int": _int,
    "left_of": lambda one, other, /: _point(one)[0] < _point(other)[0],
    "len": lambda values, /: len(values),
    "lower": lambda value, /: _need(value, str, "a text").lower(),
    "max": lambda *values: max(_list(*values)),
    "min": lambda *values: min(_list(*values)),
    "nearest": _nearest,
    "range": lambda *ends: list(range(*ends)),
    "right_of": lambda one, other, /: _point(one)[0] > _point(other)[0],
    "round": _round,
    "sorted": _sorted,
    "str": lambda value, /: str(_need(value, str | int | float | None, "a text or number")),
    "sum": lambda values, /: sum(_number(value) for value in _list(values)),
    "unique": _unique,
}


def _cost_of_filter(things: Any, /, **attributes: Any) -> int:
    return 8 * len(things) * (1 + len(attributes))


COSTS: dict[str, Callable[..., int]] = {  # steps of a call that costs more than inspecting its arguments
    "count": _cost_of_filter,
    "filter": _cost_of_filter,
    "find": _cost_of_filter,
    "nearest": lambda thing, things: 8 * len(things),
    "range": lambda *ends: len(range(*ends)),
    "sorted": lambda values, by=None: 20 * len(values),
    "unique": lambda values: len(values) ** 2,
}
