"""Expressions over variables, evaluated without trusting who wrote them.

A small part of Python's grammar: no attributes, no assignments, no comprehensions, only the
functions listed here; and every step is bounded, so that no text can eat memory or time.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

MAX_TEXT = 4096
MAX_PARTS = 500
MAX_DEPTH = 40
_MAX_BITS = 4096
_MAX_POWER = 64
_MAX_DIGITS = 30
_MAX_LENGTH = 1_000_000


class ExpressionError(ValueError):
    """The expression cannot be evaluated; the message says why, and what is allowed."""


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def _rounded(number: Any, digits: int = 0) -> Any:
    if abs(digits) > _MAX_DIGITS:
        raise ExpressionError(f"round() takes at most {_MAX_DIGITS} digits")
    return round(number, digits) if digits else round(number)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "all": all,
    "any": any,
    "bool": bool,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "float": float,
    "int": int,
    "len": len,
    "max": max,
    "min": min,
    "round": _rounded,
    "sorted": sorted,
    "str": str,
    "sum": sum,
}
_CONSTANTS = {"true": True, "false": False, "null": None, "none": None}


def evaluate(text: str, variables: Mapping[str, Any]) -> Any:
    """The value of an expression.

    Raises:
        ExpressionError: it is not an expression of the allowed kind, or it has no value.
    """
    try:
        return _Evaluator(variables).value(_parsed(text).body)
    except ExpressionError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        IndexError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise ExpressionError(f"it has no value: {error}") from error


def names_in(text: str) -> list[str]:
    """The variables that an expression reads, in order, each once."""
    names = [node for node in ast.walk(_parsed(text)) if isinstance(node, ast.Name)]
    names.sort(key=lambda node: (node.lineno, node.col_offset))
    known = FUNCTIONS.keys() | _CONSTANTS.keys()
    return list(dict.fromkeys(node.id for node in names if node.id not in known))


def _parsed(text: str) -> ast.Expression:
    if len(text) > MAX_TEXT:
        raise ExpressionError(f"it is longer than {MAX_TEXT} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or str(error)
        raise ExpressionError(f"it cannot be read: {reason}") from error
    if sum(1 for _ in ast.walk(tree)) > MAX_PARTS:
        raise ExpressionError(f"it has more than {MAX_PARTS} parts")
    return tree


class _Evaluator:
    """Walks a parsed expression; one method for each kind of part."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = variables
        self._depth = 0

    def value(self, node: ast.expr) -> Any:
        """The value of one part."""
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise ExpressionError(
                f"{_said(node)} is not allowed; use variables, numbers, texts, comparisons,"
                f" and/or/not, + - * / // % ** and the functions {', '.join(FUNCTIONS)}"
            )
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"it is nested deeper than {MAX_DEPTH}")
        found = _bounded(method(node))
        self._depth -= 1
        return found

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        if node.id in self._variables:
            return self._variables[node.id]
        if node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        raise ExpressionError(f"the variable {node.id} has no value")

    def _boolop(self, node: ast.BoolOp) -> Any:
        found: Any = None
        for part in node.values:
            found = self.value(part)
            if bool(found) is isinstance(node.op, ast.Or):
                return found
        return found

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        act = _UNARY.get(type(node.op))
        if act is None:
            raise ExpressionError("~ is not allowed")
        return act(self.value(node.operand))

    def _binop(self, node: ast.BinOp) -> Any:
        act = _BINARY.get(type(node.op))
        if act is None:
            raise ExpressionError(f"{type(node.op).__name__} is not allowed")
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Mult | ast.Mod | ast.Pow):
            _only_numbers(left, right)
        if isinstance(node.op, ast.Pow) and abs(right) > _MAX_POWER:
            raise ExpressionError(f"a power may be at most {_MAX_POWER}")
        return act(left, right)

    def _compare(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for kind, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part)
            if not _COMPARE[type(kind)](left, right):
                return False
            left = right
        return True

    def _ifexp(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def _list(self, node: ast.List) -> list[Any]:
        return [self.value(part) for part in node.elts]

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.value(part) for part in node.elts)

    def _subscript(self, node: ast.Subscript) -> Any:
        return self.value(node.value)[self.value(node.slice)]

    def _call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
            raise ExpressionError(
                f"{_said(node.func)} cannot be called; allowed are {', '.join(FUNCTIONS)}"
            )
        return FUNCTIONS[node.func.id](*[self.value(part) for part in node.args])


def _only_numbers(left: Any, right: Any) -> None:
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        raise ExpressionError("*, % and ** go with numbers only")


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise ExpressionError("a number is too large")
    if isinstance(value, str | list | tuple | dict) and len(value) > _MAX_LENGTH:
        raise ExpressionError("a text or list is too long")
    return value


def _said(node: ast.AST) -> str:
    return ast.unparse(node)[:60]
