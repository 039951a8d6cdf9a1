"""Checks of Spark SQL expressions that come from the settings: a value of one row, the same whenever it is computed."""

from __future__ import annotations

import re
from typing import Any

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType

from crossweave.errors import SettingsError

_CLOCK = re.compile(r"\b((current_\w+|localtimestamp|now|session_user)\(|\w*subquery)")


def columns_of(rows: DataFrame, expression: str, what: str) -> set[str]:
    """Check an expression over the columns of `rows`, a plain relation, and return the columns that it reads.

    Raises SettingsError, which begins with `what`, where the expression cannot be computed, looks at other rows, reads
    the clock or is random.
    """
    try:
        made = rows.select(F.expr(expression).alias("_"), "*")
        plan: Any = made._jdf.queryExecution().analyzed()
    except (AnalysisException, ParseException) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise SettingsError(
            f"{what} is no expression over its columns: {reason}", "it is a Spark SQL expression"
        ) from error
    one_row = plan.nodeName() == "Project" and plan.children().head().children().isEmpty()
    if not one_row:
        raise SettingsError(f"{what} looks at more than its own row", "use no aggregate, window or generator")
    alone: Any = rows.select(F.expr(expression).alias("_"))._jdf.queryExecution().analyzed()
    if not alone.deterministic() or _CLOCK.search(alone.toString().lower()):
        raise SettingsError(f"{what} is another value each time", "use no clock and no random numbers")
    references, names = alone.references().iterator(), set()
    while references.hasNext():
        names.add(str(references.next().name()))
    return names


def check_condition(rows: DataFrame, expression: str, what: str) -> None:
    """Check an expression that says yes or no; raises SettingsError as `columns_of` does, and for another type."""
    columns_of(rows, expression, what)
    found = rows.select(F.expr(expression)).schema[0].dataType
    if not isinstance(found, BooleanType):
        raise SettingsError(
            f"{what} should be true or false, it is {found.simpleString()}", "compare it with something"
        )
