"""How large a value an expression may make of one row, as far as its constants tell.

Column values count as one unit. What a length from a column makes of a row is not known here, and not bounded:
`repeat('x', price)` is as long as the price says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crossweave.tables.expression_nodes import children, folded, simple_name, walk

LARGE_TYPES = frozenset({"StringType$", "StringType", "BinaryType$", "ArrayType", "MapType", "StructType"})
ONE_OF = frozenset({"If", "CaseWhen", "Coalesce", "Nvl", "Nvl2", "NullIf", "Greatest", "Least", "IfNull", "Elt"})
DAY = 86_400_000_000  # microseconds
_DIGITS = re.compile(r"\d{4,}")


@dataclass(frozen=True)
class Cost:
    """Of one node, by its constants: characters or elements of its value, and steps to compute it."""

    size: float = 1.0
    steps: float = 1.0


def cost_of(node: Any, variables: Mapping[int, float] | None = None) -> tuple[Cost, float]:
    """Return the cost of a node, and the largest size of it and of all below it.

    `variables` gives the sizes of lambda variables, by their ids.
    """
    known = variables or {}
    name = simple_name(node)
    if name == "ArrayAggregate":
        return _aggregated(node, known)
    if name == "NamedLambdaVariable":
        size = known.get(int(node.exprId().id()), 1.0)
        return Cost(size), size
    below = [cost_of(child, known) for child in children(node)]
    costs = [cost for cost, _ in below]
    size, steps = _size(node, name, costs), 1.0 + sum(cost.steps for cost in costs)
    if name != "Literal" and simple_name(node.dataType()) not in LARGE_TYPES:
        size = 1.0
    if _is_lambda_holder(node):
        arguments = [
            c for child, c in zip(children(node), costs, strict=True) if simple_name(child) != "LambdaFunction"
        ]
        bodies = [c for child, c in zip(children(node), costs, strict=True) if simple_name(child) == "LambdaFunction"]
        rounds = math.prod(max(1.0, c.size) for c in arguments[:1])
        steps += rounds * sum(c.steps for c in bodies)
    return Cost(size, max(steps, size)), max([size, *(largest for _, largest in below)])


def _size(node: Any, name: str, costs: Sequence[Cost]) -> float:
    parts, sizes = children(node), [cost.size for cost in costs]
    if name == "Literal":
        return _literal(node)
    if name in ("StringRepeat", "ArrayRepeat"):
        return sizes[0] * count_of(parts[1])
    if name == "StringSpace":
        return count_of(parts[0])
    if name in ("StringLPad", "StringRPad", "BinaryPad"):
        return max(sizes[0], count_of(parts[1]))
    if name == "Sequence":
        return _elements(parts)
    if name == "ArrayInsert":
        return sizes[0] + count_of(parts[1]) + sizes[2]
    if name in ("FormatString", "FormatNumber"):
        return sum(sizes) + max((_widest(part) for part in parts), default=0.0)
    if name in ("StringReplace", "RegExpReplace", "ArrayJoin", "ConcatWs"):
        return sum(sizes) * max(1.0, *sizes)
    if name in ONE_OF:
        return max(sizes, default=1.0)
    return math.prod(max(1.0, s) for s in sizes) if _is_lambda_holder(node) else max(1.0, sum(sizes))


def count_of(node: Any) -> float:
    """Return a count as its constants say: the value, else the largest whole number that takes part in it."""
    value = folded(node)
    if isinstance(value, int | float):
        return max(0.0, float(value))
    numbers = [n.value() for n in walk(node) if simple_name(n) == "Literal"]
    return max([1.0, *(abs(float(n)) for n in numbers if isinstance(n, int | float) and not isinstance(n, bool))])


def _aggregated(node: Any, known: Mapping[int, float]) -> tuple[Cost, float]:
    """Follow an accumulator that may grow with every element."""
    argument, zero, merge, finish = children(node)
    (taken, a), (start, b) = cost_of(argument, known), cost_of(zero, known)
    holder, last = [int(each.exprId().id()) for each in _lambda_arguments(merge)], _lambda_arguments(finish)
    body = merge.function()
    (one, c), (two, _) = (cost_of(body, {**known, holder[0]: float(size)}) for size in (1, 2))
    factor, rest = two.size - one.size, max(0.0, 2 * one.size - two.size)
    rounds = max(1.0, taken.size)
    if factor > 1.0:
        size = (start.size + rest) * min(factor ** min(rounds, 1000.0), 1e300)
        size = math.inf if taken.size <= 1.0 else size  # of a column's array nobody knows the length
    else:
        size = start.size + rounds * rest
    done, d = cost_of(finish.function(), {**known, **({int(last[0].exprId().id()): size} if last else {})})
    return Cost(done.size, taken.steps + start.steps + rounds * one.steps + done.steps), max(a, b, c, d, size)


def _lambda_arguments(node: Any) -> list[Any]:
    found, arguments = node.arguments().iterator(), []
    while found.hasNext():
        arguments.append(found.next())
    return arguments


def _is_lambda_holder(node: Any) -> bool:
    return any(simple_name(child) == "LambdaFunction" for child in children(node))


def _literal(node: Any) -> float:
    value = node.value()
    if value is None:
        return 1.0
    if simple_name(node.dataType()) == "ArrayType":
        return float(value.numElements())
    return float(len(str(value))) if simple_name(node.dataType()).startswith("String") else 1.0


def _widest(node: Any) -> float:
    """Return the largest width that a format asks for, or the digits that a number is shown with."""
    value = folded(node)
    if isinstance(value, int | float):
        return float(value)
    return max((float(found) for found in _DIGITS.findall(str(value))), default=0.0) if value is not None else 0.0


def _elements(parts: Sequence[Any]) -> float:
    """Return the length of sequence(start, stop[, step])."""
    start, stop = folded(parts[0]), folded(parts[1])
    if not isinstance(start, int | float) or not isinstance(stop, int | float):
        return max(count_of(part) for part in parts[:2])
    unit = {"DateType$": DAY, "TimestampType$": 1, "TimestampNTZType$": 1}.get(simple_name(parts[0].dataType()))
    span = abs(float(stop) - float(start))
    step = folded(parts[2]) if len(parts) > 2 else None
    if unit is None:
        return span / max(1.0, abs(float(step)) if isinstance(step, int | float) else 1.0) + 1.0
    return span * unit / _micros(step, simple_name(parts[2].dataType()) if len(parts) > 2 else "") + 1.0


def _micros(step: Any, kind: str) -> float:
    if hasattr(step, "microseconds"):  # a calendar interval: its fields are public
        from py4j.java_gateway import get_field

        months, days, rest = (abs(float(get_field(step, name))) for name in ("months", "days", "microseconds"))
        return max(1.0, months * 28 * DAY + days * DAY + rest)
    if isinstance(step, int | float):
        return max(1.0, abs(float(step)) * (28 * DAY if kind.startswith("YearMonth") else 1))
    return float(DAY)
