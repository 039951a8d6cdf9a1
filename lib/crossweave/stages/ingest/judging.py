"""What the counts of a judged table say: fit to go on, worth a warning, or not what the settings take it for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyspark.sql import DataFrame

from crossweave.config import Settings
from crossweave.errors import BudgetExceededError, InputContractError
from crossweave.tables.events import REASONS
from crossweave.tables.matching import Side, compare
from crossweave.tables.paths import inner_name
from crossweave.tables.refusals import Group, in_words, refused
from crossweave.tables.source import Source
from crossweave.tables.times import LONG_AGO, WHOLE, wrong_column

Groups = Mapping[str | None, Group]

REMARKABLE = 0.01  # share of refused rows from which somebody should look at them
FEW = 0.5  # share of users with a row in the users table, below which it is said
COUNTED = {
    "timed": "event_time is not null",
    "early": f"event_time < timestamp'{LONG_AGO:%Y-%m-%d %H:%M:%S}Z'",
    "filled": "filled",
    "weightless": "weight <= 0",
}
"""What is counted of the interactions beside their reasons, as SQL."""

MENDS = {
    "not_utf8": "text in another encoding: write UTF-8, or derive it: decode(cast(NAME as binary), 'ISO-8859-1')",
    "null_id": "an id is null or blank: mend it at its source",
    "duplicate_id": "an id stands in several rows: keep one",
    "unknown_item": "ids that the items table lacks: is it whole, and are ids written alike in both",
    "unknown_user": "users that neither interactions nor users have: are ids written alike",
    "bad_time": "times that no event can have",
    "no_weight": "set inputs.interactions.missing_weight to what a row without a weight weighs",
    "non_finite": "weights that are infinite or too large for a 32-bit float",
    "unknown_split": "the split column should hold train, valid or test",
    "pair_in_two_splits": "a (user, item) pair may stand in one split only",
}


def rows_of(groups: Groups, reason: str | None) -> int:
    """Return how many rows have a reason; None: are accepted."""
    return groups[reason].rows if reason in groups else 0


def check_budget(name: str, groups: Groups, settings: Settings, hint: str = "") -> None:
    """Raise BudgetExceededError where more rows of an input table are refused than `ingest` allows."""
    found, budget = refused(groups), settings.ingest
    bad, total = sum(group.rows for group in found.values()), sum(group.rows for group in groups.values())
    if bad > budget.min_refused_count and bad > budget.max_refused_fraction * total:
        mends = "; ".join(f"{reason}: {MENDS[reason]}" for reason in [*found][:3] if reason in MENDS)
        raise BudgetExceededError(
            f"too many rows of the {name} are refused, {bad:,} of {total:,}: {in_words(found)}",
            f"{hint + '; ' if hint else ''}{mends}; the quarantine table names each row; or raise "
            f"ingest.max_refused_fraction ({budget.max_refused_fraction:g}). What was served before stays served",
        )


def refusal_warnings(name: str, groups: Groups, hint: str = "") -> list[str]:
    """Say what is refused of an input table, where it is more than a trifle."""
    found = refused(groups)
    bad, total = sum(group.rows for group in found.values()), sum(group.rows for group in groups.values())
    if bad <= REMARKABLE * total:
        return []
    return [f"{bad:,} of {total:,} rows of the {name} are refused: {in_words(found)}" + (f"; {hint}" if hint else "")]


def check_events(groups: Groups, settings: Settings, source: Callable[[], DataFrame]) -> None:
    """Raise InputContractError where a whole column of the interactions is not what the settings take it for.

    `source` gives the input's rows, for an example.
    """
    columns, split = settings.inputs.interactions, settings.split.column
    good = {name: sum(g.more[name] for r, g in groups.items() if r is None) for name in ("timed", "early")}
    for bad, reached, what in (
        (rows_of(groups, "bad_time"), _reached(groups, "bad_time"), "values"),
        (good["early"], good["timed"], f"times, all before {LONG_AGO.year},"),
    ):
        if columns.time and bad and bad >= WHOLE * reached:
            told, place = f"{bad:,} of {reached:,} {what}", "inputs.interactions.time"
            raise wrong_column(source(), inner_name(columns.time), columns.time_unit, place, told, name=columns.time)
    for reason, setting, name, hint in (
        ("null_id", "user or item", f"{columns.user} or {columns.item}", "name the columns that hold the ids"),
        ("no_weight", "weight", columns.weight, f"{MENDS['no_weight']}, or weight: null, so that all weigh 1"),
        ("non_finite", "weight", columns.weight, "name a column of finite numbers"),
        ("unknown_split", "", split, f'derive one: inputs.interactions.derived: {{part: "lower(trim({split}))"}}, say, '
         "and split.column: part; its values are train, valid and test"),
    ):  # fmt: skip
        bad, reached = rows_of(groups, reason), _reached(groups, reason)
        if bad and bad >= WHOLE * reached:
            place = f"inputs.interactions.{setting}" if setting else "split.column"
            told = f"{bad:,} of {reached:,} values in {name} cannot be used, {reason}: {groups[reason].example}"
            raise InputContractError(f"{place}: {told}", hint)


def _reached(groups: Groups, reason: str) -> int:
    """Return how many rows were asked for a reason: those with it, a later one or none; of times, those with a time."""
    asked = {None, *REASONS[REASONS.index(reason) :]}
    timed = reason == "bad_time"
    return sum(g.more["timed"] if timed and r != reason else g.rows for r, g in groups.items() if r in asked)


def event_notes(groups: Groups, settings: Settings) -> list[str]:
    """Say of the accepted interactions what is missing in them, and what was put in its place."""
    columns, good = settings.inputs.interactions, groups.get(None)
    if good is None:
        return []
    notes = []
    if good.more["filled"]:
        notes.append(
            f"{good.more['filled']:,} interactions have no {columns.weight}: they weigh {columns.missing_weight:g}"
        )
    if good.more["weightless"]:
        notes.append(f"{good.more['weightless']:,} interactions weigh 0 or less: they are choices like all others")
    if columns.time and good.more["timed"] < good.rows:
        notes.append(
            f"{good.rows - good.more['timed']:,} interactions have no {columns.time}: they are never held out by it"
        )
    return notes


def check_ids(mine: Side, other: Side, lacking: int, of: int, few: int) -> str:
    """Compare the ids of two columns, of which `lacking` rows of `of` found nothing; returns what to say of it.

    Raises InputContractError where none matches, and they are more than `few` or a simple rewriting would mend it.
    """
    if not lacking or not of or lacking <= REMARKABLE * of or other.ids.isEmpty():
        return ""
    words, mend = compare(mine, other)
    if lacking == of and (mend or lacking > few):
        raise InputContractError(
            f"none of the {of:,} rows of the {mine.table} names what is in the {other.table}: {words}",
            mend or f"write ids alike in both, by inputs.{mine.table}.derived or inputs.{other.table}.derived, say",
        )
    return f"{words}; {mend}" if mend else words


def side_of(source: Source, ids: DataFrame, setting: str, column: str) -> Side:
    """Describe the ids of one column of an input table; those of users are private."""
    private = setting == "user" or source.table.name == "users"
    return Side(ids, source.table.name, setting, column, source.is_integer(column), source.derived, private)


def few_users_known(known: int, of: int) -> str:
    """Say that the users table knows few of the users, or nothing."""
    if not of or known >= FEW * of:
        return ""
    return f"only {known:,} of {of:,} users of the interactions have a row in the users table"
