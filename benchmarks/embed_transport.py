"""E1: what moving rows costs: 60,000 short texts through a model that does nothing, ours against predict_batch_udf."""

from __future__ import annotations

import datetime
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import bench
import numpy as np

from crossweave.encoders.base import Encoder, EncoderSettings, FloatArray

ROWS, DIM = 60_000, 384


class Nothing(Encoder):
    """Gives every text the same vector."""

    name = "nothing"
    Settings: ClassVar[type[EncoderSettings]] = EncoderSettings

    @property
    def batch_budget(self) -> int:
        """Rows of one call."""
        return 4096

    def _dim(self) -> int:
        return DIM

    def _encode(self, examples: list[Any]) -> FloatArray:
        return np.full((len(examples), DIM), 0.5, dtype=np.float32)


def main() -> None:
    """Run both sides and keep the ratio."""
    import embed_transport  # under its importable name, as the workers know it
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import ArrayType, FloatType

    from crossweave.encoders.worker import Limits
    from crossweave.stages.embed.workers import Task, encode_partition
    from crossweave.tables.feature_writer import WRITTEN

    spark = bench.spark(2, **{"spark.sql.execution.arrow.maxRecordsPerBatch": "1024"})
    folder = Path(tempfile.mkdtemp())
    number = F.col("id").cast("string")
    rows = spark.range(ROWS, numPartitions=2).select(
        F.sha2(number, 256).alias("content_hash"), F.concat(F.lit("a short text, number "), number).alias("value")
    )
    rows = rows.cache()
    rows.count()
    encoder = embed_transport.Nothing("text", EncoderSettings())
    task = Task(encoder, folder / "ours", datetime.date(2026, 1, 1), "cpu", Limits(True, 30.0, 1024))

    def ours() -> None:
        written = rows.mapInArrow(lambda b: encode_partition(task, b), from_arrow_schema(WRITTEN)).collect()
        assert sum(row["rows"] for row in written) == ROWS

    def make() -> Any:
        return lambda texts: np.full((len(texts), DIM), 0.5, dtype=np.float32)

    udf = predict_batch_udf(make, return_type=ArrayType(FloatType()), batch_size=1024)

    def theirs() -> None:
        frame = rows.select("content_hash", udf("value").alias("vector"))
        frame.write.mode("overwrite").parquet(str(folder / "theirs"))

    our, their = bench.seconds(ours), bench.seconds(theirs)
    shutil.rmtree(folder)
    bench.keep(
        "embed_transport",
        "E1: transport of 60,000 texts and 384-d vectors, to files",
        "≥ 8×",
        [
            ("ours (mapInArrow, the worker writes float16 bytes), rows/s", f"{ROWS / our:,.0f}"),
            ("predict_batch_udf, array<float> to Parquet, rows/s", f"{ROWS / their:,.0f}"),
            ("ratio", f"{their / our:.1f}×"),
        ],
    )


if __name__ == "__main__":
    main()
