"""Checks of Spark SQL expressions that come from the settings: a value of one row, the same whenever it is computed."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType

from crossweave.errors import SettingsError
from crossweave.tables.expression_nodes import OUTSIDE, check_node, check_parsed, walk
from crossweave.tables.expression_size import cost_of

LONGEST, DEEPEST = 20_000, 100  # characters of an expression, and brackets within each other: the parser takes long
LARGEST = 100_000  # characters, or elements, that constants may make of one row
MOST_STEPS = 10_000_000  # by constants, for one row


def columns_of(rows: DataFrame, expression: str, what: str) -> set[str]:
    """Check an expression over the columns of `rows`, a plain relation, and return the columns that it reads.

    Raises SettingsError, which begins with `what`, where the expression cannot be computed, looks at other rows or at
    files, reads the clock, the session or the environment, is random, calls code, or makes more than LARGEST of a row.
    Nothing of it is computed, and no file that it names is opened.
    """
    if len(expression) > LONGEST:
        raise SettingsError(f"{what} has {len(expression):,} characters; at most {LONGEST:,}", "make it shorter")
    if _depth(expression) > DEEPEST:
        raise SettingsError(f"{what} is nested too deeply to be read", f"at most {DEEPEST} brackets within each other")
    try:
        check_parsed(rows.sparkSession, expression, what)
        made = rows.select(F.expr(expression).alias("_"), "*")
        plan: Any = made._jdf.queryExecution().analyzed()
    except (AnalysisException, ParseException) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise SettingsError(
            f"{what} is no expression over its columns: {reason}", "it is a Spark SQL expression"
        ) from error
    except Py4JJavaError as error:
        if "StackOverflowError" not in str(error):
            raise
        raise SettingsError(f"{what} is nested too deeply to be read", "it is a Spark SQL expression") from error
    one_row = plan.nodeName() == "Project" and plan.children().head().children().isEmpty()
    if not one_row:
        raise SettingsError(f"{what} looks at more than its own row", "use no aggregate, window or generator")
    alone: Any = rows.select(F.expr(expression).alias("_"))._jdf.queryExecution().analyzed()
    _check_analysed(alone.expressions().head(), what)
    references, names = alone.references().iterator(), set()
    own: Any = rows._jdf.queryExecution().analyzed()
    while references.hasNext():
        reference = references.next()
        if not own.outputSet().contains(reference):
            raise SettingsError(f"{what} reads {reference.name()}, which is no column of the rows", OUTSIDE)
        names.add(str(reference.name()))
    return names


def check_condition(rows: DataFrame, expression: str, what: str) -> None:
    """Check an expression that says yes or no; raises SettingsError as `columns_of` does, and for another type."""
    columns_of(rows, expression, what)
    found = type_of(rows, expression, what)
    if not isinstance(found, BooleanType):
        raise SettingsError(
            f"{what} should be true or false, it is {found.simpleString()}", "compare it with something"
        )


def type_of(rows: DataFrame, expression: str, what: str) -> DataType:
    """Return the type of a checked expression; raises SettingsError for one that no column has, such as an interval."""
    made: Any = rows.select(F.expr(expression).alias("_"))._jdf.schema().head().dataType()
    if "interval" in str(made.catalogString()):
        raise SettingsError(f"{what} is of type {made.catalogString()}, which no column can have", "cast it to another")
    return rows.select(F.expr(expression).alias("_")).schema[0].dataType


def _depth(expression: str) -> int:
    steps = ((c in "([") - (c in ")]") for c in expression)
    return max(accumulate(steps), default=0)


def _check_analysed(node: Any, what: str) -> None:
    cost, largest = cost_of(node)
    if largest > LARGEST or cost.steps > MOST_STEPS:
        raise SettingsError(
            f"{what} makes about {max(largest, cost.steps):,.0f} characters, elements or steps of one row; "
            f"at most {LARGEST:,} characters or elements and {MOST_STEPS:,} steps",
            "use smaller constants in repeat, lpad, sequence and their like",
        )
    for below in walk(node):
        check_node(below, what)
