"""Recommendations and item vectors as Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crossweave.stages.export.source import Source
from crossweave.storage.location import Location
from crossweave.tables.paths import read_parquet, spark_path
from crossweave.tables.vectors import as_lists

ITEMS_AT_ONCE = 65_536


def recommendations(source: Source, folder: Location) -> tuple[int, int]:
    """Write user_id, item_id, rank and score."""
    version, spark = source.reads["recommendations"], source.context.spark
    table = source.store.read(spark, "recommendations", version)
    rows = table.select(source.typed("user"), source.typed("item"), "rank", "score")
    rows.write.mode("append").parquet(spark_path(folder))
    return source.store.required("recommendations", version).rows, read_parquet(spark, [folder]).count()


def items(source: Source, folder: Path) -> tuple[int, int]:
    """Write item_id, vector (float32, what a user's vector is multiplied with) and bias of every item."""
    vectors_NE, bias_N = source.vectors.target_NE, source.vectors.bias_N
    schema = pa.schema({"item_id": source.item_ids.type, "vector": pa.list_(pa.float32()), "bias": pa.float32()})
    with pq.ParquetWriter(folder / "part-0.parquet", schema) as writer:
        for start in range(0, len(vectors_NE), ITEMS_AT_ONCE):
            part = slice(start, start + ITEMS_AT_ONCE)
            columns = [source.item_ids[part], as_lists(vectors_NE[part]), pa.array(bias_N[part], pa.float32())]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    return len(vectors_NE), pq.read_metadata(folder / "part-0.parquet").num_rows
