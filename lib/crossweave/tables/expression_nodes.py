"""Judges the nodes of Spark SQL expressions: may each of them stand in a value of one row that never changes?

Before analysis only names are judged, since analysing a subquery may already read its file, and a call of Java its
class; afterwards every node, with those that a function is replaced by, bodies of lambdas and casts that Spark added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from pyspark.sql import SparkSession

from crossweave.errors import SettingsError

PACKAGE = "org.apache.spark.sql.catalyst.expressions"
OUTSIDE = "use the row's own columns alone: no subquery, file, clock, session, variable or random number"
GROUPS = frozenset(
    {"array", "bitwise", "collection", "conditional", "conversion", "csv", "datetime", "hash", "json", "lambda", "map"}
    | {"math", "predicate", "string", "struct", "url", "agg", "window", "generator"}
)
"""Groups of Spark's own functions; aggregates, windows and generators are refused by the shape of the plan."""
ALSO = frozenset({"typeof", "equal_null", "bitmap_count", "bitmap_bit_position", "bitmap_bucket_number"})
CHANGING = frozenset(
    {"CurrentDate", "CurrentTimestamp", "CurrentTimestampLike", "CurrentBatchTimestamp", "Now", "LocalTimestamp"}
    | {"CurrentTimeZone", "CurrentUser", "CurrentCatalog", "CurrentDatabase", "SparkVersion", "VariableReference"}
    | {"InputFileName", "InputFileBlockStart", "InputFileBlockLength", "AesEncrypt"}
)
"""Nodes that Spark calls deterministic within one query, and that are another value in the next."""
CALLING = frozenset({"CallMethodViaReflection", "RaiseError", "AssertTrue"})
KINDS = ("PlanExpression", "UserDefinedExpression", "RuntimeReplaceable")
PARSERS = ("CsvToStructs", "JsonToStructs")
TIMES = frozenset({"DateType$", "TimestampType$", "TimestampNTZType$"})
_known: dict[str, frozenset[str]] = {}  # by the name of a node's class
_DATED = re.compile(r"[a-z_]+\s*(['\"])\s*([-+]?\d{4,7}\s*|[-+]?\d{4,7}-[^'\"]*|epoch[^'\"]*)\1", re.IGNORECASE)
_TIME = re.compile(r"(?:^|[<,:])(?:timestamp|date)")  # in the name of a type
_SOMEWHERE = re.compile(r"(?:^|[^\w:.+-])(?:T?\d{1,2}:|(?:now|today|tomorrow|yesterday)\b)", re.IGNORECASE)
_WHOLE = re.compile(r"^\s*(?:T|\d{1,2}:|(?:now|today|tomorrow|yesterday)\b)", re.IGNORECASE)  # Spark adds today's date


def check_parsed(spark: SparkSession, expression: str, what: str) -> None:
    """Judge an expression before anything in it is looked up; raises SettingsError."""
    if "${" in expression:
        raise SettingsError(f"{what} is another value each time: ${{…}} in SQL reads variables", OUTSIDE)
    parser: Any = spark._jsparkSession.sessionState().sqlParser()
    for node in walk(parser.parseExpression(expression)):
        name = simple_name(node)
        if "PlanExpression" in _kinds(node):
            raise SettingsError(f"{what} is another value each time: it looks at other rows by a subquery", OUTSIDE)
        if name == "ExpressionWithUnresolvedIdentifier":
            raise SettingsError(f"{what} calls by IDENTIFIER(), which is not followed", "write the name itself")
        if name == "UnresolvedFunction":
            _check_function(spark, [str(part) for part in _each(node.nameParts())], what)
        if name == "Literal" and simple_name(node.dataType()) in TIMES and not _DATED.fullmatch(_text(node)):
            raise SettingsError(
                f"{what} is another value each time: {_text(node)} depends on the day of the run",
                "write dates as yyyy-mm-dd and times as yyyy-mm-dd hh:mm:ss",
            )


def check_node(node: Any, what: str) -> None:
    """Judge one node of an analysed expression; raises SettingsError."""
    name = simple_name(node)
    if "PlanExpression" in _kinds(node):
        raise SettingsError(f"{what} is another value each time: it looks at other rows by a subquery", OUTSIDE)
    if not node.deterministic() or name in CHANGING:
        raise SettingsError(f"{what} is another value each time: {node.prettyName()}", OUTSIDE)
    if name in CALLING or "own" not in _kinds(node) or "UserDefinedExpression" in _kinds(node):
        raise SettingsError(f"{what} calls {node.prettyName()}, which is not allowed here", OUTSIDE)
    clock = _clock_in(node, name)
    if clock is not None:
        for text in _texts(node.child()):
            if clock.search(text):
                raise SettingsError(
                    f"{what} is another value each time: {text!r} as a time depends on the day of the run",
                    "write dates as yyyy-mm-dd and times as yyyy-mm-dd hh:mm:ss",
                )


def _clock_in(node: Any, name: str) -> re.Pattern[str] | None:
    """Return what in a text depends on the day, for a node that makes times of texts, at any depth; else None."""
    found = {"Cast": _WHOLE, **dict.fromkeys(PARSERS, _SOMEWHERE)}.get(name)
    return found if found is not None and _TIME.search(str(node.dataType().catalogString())) else None


def walk(node: Any) -> Iterator[Any]:
    """Yield a node and all below it, those that it is replaced by too."""
    yield node
    for child in children(node):
        yield from walk(child)


def children(node: Any) -> list[Any]:
    """Return the nodes below one: its children, and what stands in its place when it is computed."""
    below = list(_each(node.children()))
    if "RuntimeReplaceable" in _kinds(node):
        replacement = node.replacement()
        if not any(each.equals(replacement) for each in below):
            below.append(replacement)
    return below


def simple_name(node: Any) -> str:
    """Return the name of a node's class without its package."""
    return str(node.getClass().getName()).rpartition(".")[2]


def folded(node: Any) -> Any:
    """Return the value of a constant node; None where it is none, or cannot be computed outside of a query."""
    if not node.foldable():
        return None
    try:
        return node.eval(None)
    except Exception:  # whatever a function raises: the query itself will say it
        return None


def _check_function(spark: SparkSession, parts: list[str], what: str) -> None:
    *above, name = (part.lower() for part in parts)
    group = _groups(spark).get(name) if above in ([], ["system", "builtin"]) else None
    if group is None or not (group.removesuffix("_funcs") in GROUPS or name in ALSO):
        if group == "misc_funcs" and name not in ("java_method", "reflect", "raise_error", "assert_true"):
            raise SettingsError(f"{what} is another value each time: {name}", OUTSIDE)
        raise SettingsError(f"{what} calls {'.'.join(parts)}, which is not allowed here", OUTSIDE)


def _texts(node: Any) -> Iterator[str]:
    """Yield the strings that a node may be: its value where it is constant, and every literal below it."""
    value = folded(node)
    if value is not None:
        yield str(value)
    for below in walk(node):
        if simple_name(below) == "Literal" and below.value() is not None:
            yield str(below.value())


def _text(node: Any) -> str:
    """Return the part of the expression that a node was parsed from."""
    origin = node.origin()
    return str(origin.sqlText().get())[origin.startIndex().get() : origin.stopIndex().get() + 1]


def _each(sequence: Any) -> Iterator[Any]:
    found = sequence.iterator()
    while found.hasNext():
        yield found.next()


def _kinds(node: Any) -> frozenset[str]:
    """Return which of the kinds that are judged a node is of, and `own` where it is one of Spark's."""
    kind = node.getClass()
    name = str(kind.getName())
    if name not in _known:
        forms = [form for form in KINDS if kind.getClassLoader().loadClass(f"{PACKAGE}.{form}").isAssignableFrom(kind)]
        _known[name] = frozenset(forms) | ({"own"} if name.startswith(PACKAGE) else set())
    return _known[name]


@cache
def _groups(spark: SparkSession) -> dict[str, str]:
    """Return Spark's own functions by name, with the group of each."""
    jvm: Any = spark._jvm
    registry = jvm.org.apache.spark.sql.catalyst.analysis.FunctionRegistry.builtin()
    return {
        str(key.funcName()).lower(): str(registry.lookupFunction(key).get().getGroup())
        for key in _each(registry.listFunction())
    }
