"""E3: JPEGs of 1024 × 768 through ResNet-50: ours in Spark, two chained pandas UDFs, and the model alone; one core."""

from __future__ import annotations

import datetime
import hashlib
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bench
import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from crossweave.encoders import make_encoder
from crossweave.encoders.torchvision_compat import import_torchvision

SIDE = 224


def jpegs(count: int) -> list[bytes]:
    """Photograph-like pictures: smooth colours with some noise."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((1024, 768), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = smooth + rng.integers(-12, 13, (768, 1024, 3), dtype=np.int16)
        stream = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=85)
        made.append(stream.getvalue())
    return made


def main() -> None:
    """Run all sides and keep the ratios."""
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import from_arrow_schema

    from crossweave.encoders.worker import Limits
    from crossweave.stages.embed.workers import Task, encode_partition
    from crossweave.tables.feature_writer import WRITTEN

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    folder = Path(tempfile.mkdtemp())
    weights = str(folder / "resnet50.safetensors")
    torch.manual_seed(0)
    save_file(import_torchvision().models.resnet50().state_dict(), weights)
    settings = {"model": "resnet50", "weights": weights, "precision": "float32", "backend": "channels_last"}
    encoder = make_encoder("image", "torchvision", settings)
    torch.set_num_threads(1)
    encoder.load()
    block = [np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8) for _ in range(8)]

    spark = bench.spark(1, **{"spark.sql.execution.arrow.maxRecordsPerBatch": "64"})
    contents = jpegs(count)
    hashes = [hashlib.sha256(content).hexdigest() for content in contents]
    frame = spark.createDataFrame(list(zip(hashes, contents, strict=True)), "content_hash string, value binary")
    frame = frame.repartition(1).cache()
    frame.count()
    limits = Limits(True, 30.0, 2048)
    sent = make_encoder("image", "torchvision", settings)
    task = Task(sent, folder / "ours", datetime.date(2026, 1, 1), "cpu", limits)

    def ours() -> None:
        written = frame.mapInArrow(lambda b: encode_partition(task, b), from_arrow_schema(WRITTEN)).collect()
        assert sum(row["rows"] for row in written) == count

    @F.pandas_udf("array<float>")
    def decode(values: pd.Series) -> pd.Series:
        def one(value: bytes) -> Any:
            picture = Image.open(io.BytesIO(value)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            return (np.asarray(picture, dtype=np.float32) / 255).transpose(2, 0, 1).ravel()

        return values.map(one)

    @F.pandas_udf("array<float>")
    def embed(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        torch.set_num_threads(1)
        model = import_torchvision().models.resnet50()
        model.load_state_dict(load_file(weights))
        model.fc = torch.nn.Identity()
        model.eval()
        for pixels in batches:
            rows = torch.from_numpy(np.stack(pixels.to_numpy())).view(-1, 3, SIDE, SIDE)
            with torch.inference_mode():
                yield pd.Series(list(torch.cat([model(part) for part in rows.split(8)]).numpy()))

    def theirs() -> None:
        # The checkpoint keeps the two UDFs apart, as two library calls on a DataFrame are.
        pixels = frame.select("content_hash", decode("value").alias("pixels")).localCheckpoint()
        vectors = pixels.select("content_hash", embed("pixels").alias("vector"))
        vectors.write.mode("overwrite").parquet(str(folder / "theirs"))

    alone = 80 / bench.seconds(lambda: [encoder.encode(block) for _ in range(10)], repeats=2)
    our = count / bench.seconds(ours, repeats=1)
    their = count / bench.seconds(theirs, repeats=1)
    shutil.rmtree(folder)
    bench.keep(
        "embed_image",
        f"E3: {count} JPEGs of 1024 × 768 through ResNet-50, one Spark core and one thread",
        "≥ 0.9 of the model alone; ≥ 5× two chained pandas UDFs",
        [
            ("the model alone, pictures/s", f"{alone:.1f}"),
            ("ours from JPEG bytes, in Spark, decoding in a process beside, pictures/s", f"{our:.1f}"),
            ("two chained pandas UDFs (pixels through the JVM), pictures/s", f"{their:.1f}"),
            ("ours / model alone", f"{our / alone:.2f}"),
            ("ours / two UDFs", f"{our / their:.1f}×"),
        ],
    )


if __name__ == "__main__":
    main()
