"""The leakage check of a tensor set: of its datasets as they were written, not of what was meant to be written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from crossweave.errors import LeakageError
from crossweave.feeding.manifest import Manifest
from crossweave.feeding.schema import SEQUENCE_FIELDS
from crossweave.feeding.sequences import HELD_OUT
from crossweave.tables.leakage import Leakage, find_leakage
from crossweave.tables.paths import read_parquet

PAIRS = "user_index int, item_index int, trained boolean"


def check_tensors(spark: SparkSession, manifest: Manifest, user_index: DataFrame, held_out: DataFrame) -> Leakage:
    """Check that no held-out pair is in the sequences or counts in the items' popularity; returns what was looked at.

    `user_index` has user_id and user_index, `held_out` the rows of `tables.leakage.held_out_pairs`. Co-occurrence and
    all else that training counts is counted from the sequences. Raises LeakageError otherwise.
    """
    manifest.verify()
    pairs = sequence_pairs(spark, manifest)
    known = pairs.join(user_index.select("user_id", "user_index"), "user_index")
    leakage = find_leakage("the sequence tensors", known, held_out)
    leakage.refuse()
    _check_popularity(spark, manifest, pairs)
    return leakage


def sequence_pairs(spark: SparkSession, manifest: Manifest) -> DataFrame:
    """Return user_index, item_index and whether it is trained on (else a validation item) of all that was written."""
    rows = read_parquet(spark, manifest.places("sequences"))
    return rows.select("user_index", "items", "held_out").mapInArrow(_unpack, PAIRS)


def _unpack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        user_R = batch.column("user_index").to_numpy()
        for name, dtype in (("items", SEQUENCE_FIELDS["items"]), ("held_out", HELD_OUT)):
            values = batch.column(name).to_pylist()
            item_E = np.frombuffer(b"".join(values), dtype)
            user_E = np.repeat(user_R, [len(value) // dtype.itemsize for value in values])
            trained_E = np.full(len(item_E), name == "items")
            yield pa.RecordBatch.from_arrays(
                [pa.array(user_E, pa.int32()), pa.array(item_E, pa.int32()), pa.array(trained_E)],
                ["user_index", "item_index", "trained"],
            )


def _check_popularity(spark: SparkSession, manifest: Manifest, pairs: DataFrame) -> None:
    counted = pairs.where("trained").groupBy("item_index").agg(F.count("*").alias("counted"))
    items = read_parquet(spark, manifest.places("items")).select("item_index", "popularity")
    items = items.join(counted, "item_index", "left")
    wrong = items.where(F.col("popularity") != F.coalesce("counted", F.lit(0)))
    row = wrong.agg(F.count("*").alias("items"), F.min("item_index").alias("example")).first()
    if row is not None and row["items"]:
        raise LeakageError(
            f"the item tensors: the popularity of {row['items']:,} items, such as item number {row['example']}, counts "
            "other interactions than those of the sequence tensors",
            "nothing was published; run ./submit.sh tensors again, and report it if that does not help",
        )
