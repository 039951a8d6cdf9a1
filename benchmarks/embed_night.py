"""E5: a catalog's first night, a night with 1 % changed and a night with nothing changed, against a hash-only scan."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bench
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FILES = 4
CONF = """
inputs:
  items: {title: null}
encoders:
  words: {type: hashing, dim: 384}
  picture: {type: descriptor}
modalities:
  text: {kind: text, columns: [text], encoder: words}
  image: {kind: image, columns: [image], encoder: picture}
"""


def jpeg(rng: np.random.Generator) -> bytes:
    """A small picture of random colours."""
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((320, 240))
    stream = io.BytesIO()
    coarse.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def write(root: Path, texts: list[str], pictures: list[bytes]) -> None:
    """The catalog as several files, and one interaction."""
    (root / "items.parquet").mkdir(parents=True, exist_ok=True)
    part = -(-len(texts) // FILES)
    for number in range(FILES):
        rows = slice(number * part, (number + 1) * part)
        ids = [f"i{index}" for index in range(len(texts))][rows]
        table = pa.table({"item_id": ids, "text": texts[rows], "image": pictures[rows]})
        pq.write_table(table, root / "items.parquet" / f"part-{number}.parquet", row_group_size=1000)
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["i0"]}), root / "interactions.parquet")


def main() -> None:
    """Run the nights and keep the ratios."""
    from crossweave.runtime.job import run_job
    from crossweave.stages.embed import EMBED
    from crossweave.stages.ingest import INGEST

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    texts = [" ".join(f"word{number}" for number in rng.integers(0, 5000, 80)) for _ in range(count)]
    pictures = [jpeg(rng) for _ in range(count)]
    write(folder / "in", texts, pictures)
    (folder / "night.yaml").write_text(CONF, encoding="utf-8")

    def night(date: str) -> dict[str, Any]:
        words = ["--conf", str(folder / "night.yaml"), "--date", date]
        for pair in (f"workspace={folder / 'ws'}", f"inputs.root={folder / 'in'}"):
            words += ["--set", pair]
        start = time.perf_counter()
        code = run_job("pipeline", [INGEST, EMBED], words, lambda line: None)
        taken = time.perf_counter() - start
        assert code == 0
        result = json.loads((folder / "ws" / "runs" / "latest" / "run_result.json").read_text(encoding="utf-8"))
        encoded = {name: result["metrics"].get(f"embed.{name}.encoded", 0) for name in ("text", "image")}
        stages = {stage["name"]: stage["seconds"] for stage in result["stages"]}
        return {"seconds": taken, "encoded": encoded, "stages": stages}

    spark = bench.spark(2, **{"spark.sql.execution.arrow.maxRecordsPerBatch": "1024"})
    spark.range(10).count()

    def scan() -> None:
        from pyspark.sql import functions as F

        items = spark.read.parquet(str(folder / "in" / "items.parquet"))
        hashed = items.select("item_id", F.xxhash64("text").alias("t"), F.xxhash64("image").alias("i"))
        hashed.write.mode("overwrite").parquet(str(folder / "hashes"))

    full = night("2026-01-01")
    for index in range(0, count, 100):
        texts[index] += " changed"
        pictures[index] = jpeg(rng)
    write(folder / "in", texts, pictures)
    some = night("2026-01-02")
    nothing = night("2026-01-03")
    hashing = bench.seconds(scan, repeats=2)
    shutil.rmtree(folder)
    bound = 0.01 * full["seconds"] + 1.3 * hashing
    bench.keep(
        "embed_night",
        f"E5: {count:,} items with a text and a picture, ingest and embed, then 1 % of the items changed",
        "encoded = exactly 1 %; night ≤ 1 % of the full run + 1.3 × a hash-only scan; no change loads no model",
        [
            ("first night, s (ingest, embed)", f"{full['seconds']:.1f} {full['stages']}"),
            ("night with 1 % changed, s (ingest, embed)", f"{some['seconds']:.1f} {some['stages']}"),
            ("contents encoded in it", f"{some['encoded']} of {count:,} each"),
            ("night with nothing changed, s", f"{nothing['seconds']:.2f}, encoded {nothing['encoded']}"),
            ("hash-only scan, s", f"{hashing:.2f}"),
            ("1 % of the full run + 1.3 × the scan, s", f"{bound:.1f}"),
            ("night / that", f"{some['seconds'] / bound:.2f}"),
        ],
    )


if __name__ == "__main__":
    main()
