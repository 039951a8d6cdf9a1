"""The table history against the same pairs in plain Python."""

from __future__ import annotations

import datetime as dt
import itertools
import random

from pyspark.sql import SparkSession

from crossweave.tables.history import pairs_of
from crossweave.tables.schema import HISTORY, spark_schema

NOON = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
TIMES = [None, NOON, NOON + dt.timedelta(microseconds=1), NOON + dt.timedelta(days=3)]


def test_a_pair_stands_once_with_what_was_latest_however_its_rows_lie(spark: SparkSession) -> None:
    rng = random.Random(5)
    events = [
        (f"u{rng.randrange(6)}", f"i{rng.randrange(9)}", rng.choice(TIMES), float(rng.randrange(4))) for _ in range(300)
    ]
    split = {pair: rng.choice(["train", "valid", "test"]) for pair in {event[:2] for event in events}}
    schema = "user_id string, item_id string, event_time timestamp, weight float, split string"
    found = []
    for order in (events, events[::-1], sorted(events, key=lambda event: event[3])):
        frame = spark.createDataFrame([(*event, split[event[:2]]) for event in order], schema).repartition(5)
        pairs = pairs_of(frame)
        assert pairs.columns == spark_schema("history").names == HISTORY.names
        found.append(sorted((tuple(row) for row in pairs.collect()), key=lambda row: row[:2]))
    assert found[0] == found[1] == found[2]

    place = {time: at for at, time in enumerate(TIMES)}  # one without a time lies before all others
    want = []
    ordered = sorted(events, key=lambda event: (event[:2], place[event[2]], event[3]))
    for pair, group in itertools.groupby(ordered, key=lambda event: event[:2]):
        rows = list(group)
        timed = [row[2] for row in rows if row[2] is not None]
        want.append((*pair, split[pair], len(rows), min(timed, default=None), rows[-1][2], rows[-1][3]))
    got = [(*row[:4], *(utc(time) for time in row[4:6]), row[6]) for row in found[0]]
    assert got == want
    assert sum(row[3] for row in got) == len(events)


def utc(time: dt.datetime | None) -> dt.datetime | None:
    """Read a time that Spark gives without a zone, in that of this machine."""
    return time.astimezone(dt.UTC) if time is not None else None
