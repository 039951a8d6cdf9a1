"""E2: 2,048 texts of log-normal length through a MiniLM, one thread, ours against SentenceTransformer.encode."""

from __future__ import annotations

import sys
from pathlib import Path

import bench
import numpy as np
import torch

from crossweave.encoders import make_encoder
from crossweave.encoders.batching import encode_values
from crossweave.encoders.torchvision_compat import define_missing_schemas


def texts_of(count: int, folder: Path, data: Path) -> list[str]:
    """Real plots cut to log-normal lengths where the catalog is here, else words of the vocabulary at random."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.7, 0.8, count), 3, 300).astype(int)
    if data.is_file():
        import pyarrow.parquet as pq

        plots = [plot for plot in pq.read_table(data, columns=["text"])["text"].to_pylist() if plot]
        words = " ".join(plots[:1500]).split()
        starts = rng.integers(0, len(words) - 300, count)
        return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths, strict=True)]
    words = [line.strip() for line in (folder / "vocab.txt").open(encoding="utf-8") if line.strip().isalpha()]
    return [" ".join(rng.choice(words, length)) for length in lengths]


def main() -> None:
    """Run all sides and keep the ratios."""
    shared = bench.ROOT.parent / "shared"
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else shared / "weights" / "all-MiniLM-L6-v2"
    torch.set_num_threads(1)
    define_missing_schemas()
    from sentence_transformers import SentenceTransformer

    texts = texts_of(count, folder, shared / "data" / "movies" / "items.parquet")
    peer = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    ours = {}
    for precision in ("float32", "int8"):
        ours[precision] = make_encoder("text", "transformer", {"path": str(folder), "precision": precision})
        ours[precision].load()
    vectors = {name: encode_values(encoder, texts)[0] for name, encoder in ours.items()}
    wanted = peer.encode(texts, batch_size=32)
    theirs = bench.seconds(lambda: peer.encode(texts, batch_size=32), repeats=1)
    taken = {name: bench.seconds(lambda e=made: encode_values(e, texts), repeats=1) for name, made in ours.items()}
    difference = np.abs(vectors["float32"] - wanted).max()
    cosines = (vectors["float32"] * vectors["int8"]).sum(axis=1) / np.linalg.norm(vectors["int8"], axis=1)
    spread = f"{cosines.mean():.4f}, {np.quantile(cosines, 0.01):.4f}, {cosines.min():.4f}"
    bench.keep(
        "embed_text",
        f"E2: {count:,} texts through all-MiniLM-L6-v2, one thread",
        "≥ 1.1× exact; ≥ 1.8× int8 at cosine ≥ 0.99",
        [
            ("SentenceTransformer.encode, batch 32, float32, texts/s", f"{count / theirs:.1f}"),
            ("ours, float32, texts/s", f"{count / taken['float32']:.1f}"),
            ("ours, int8, texts/s", f"{count / taken['int8']:.1f}"),
            ("ratio, float32", f"{theirs / taken['float32']:.2f}×"),
            ("ratio, int8", f"{theirs / taken['int8']:.2f}×"),
            ("largest difference, float32", f"{difference:.1e}"),
            ("cosine of int8 to float32: mean, 1st percentile, least", spread),
        ],
    )


if __name__ == "__main__":
    main()
