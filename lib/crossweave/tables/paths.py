"""Names of users' columns as Spark is to take them: to the letter, never as an expression."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F


def inner_name(column: str) -> str:
    """Return the name that a user's column has inside our frames."""
    return column


def user_column(name: str) -> Column:
    """Return a user's column of a frame of `read_source`."""
    return F.col(quoted(inner_name(name)))


def quoted(name: str) -> str:
    """Return a column's name as Spark SQL takes it to the letter."""
    return "`" + name.replace("`", "``") + "`"
