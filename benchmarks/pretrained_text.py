"""What a text encoder's pretraining is worth for new items: rank withheld films by their texts alone, before and after.

A user is the sum of the centred unit vectors of what they took in training; a withheld item's score is its product
with that.
No model is trained, so the figures say what the vectors themselves know of who will want a text.

    python benchmarks/pretrained_text.py --learned ws-movies/learned/FINGERPRINT/model
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from bench import ROOT
from scipy.sparse import csr_matrix

from crossweave.encoders import make_encoder
from crossweave.evaluation.metrics import Relevance, ranking_metrics

K = 20


def vectors_of(folder: Path, texts: list[str]) -> np.ndarray:
    """Encode texts, longest beside longest; unit vectors less their mean, float32 [N, D]."""
    encoder = make_encoder("text", "transformer", {"path": str(folder), "precision": "float32", "backend": "eager"})
    encoder.load()
    examples = encoder.prepare(texts).examples
    order = np.argsort([len(ids) for ids in examples])
    found = np.empty((len(texts), encoder.dim), np.float32)
    for start in range(0, len(order), 16):
        some = order[start : start + 16]
        found[some] = encoder.encode([examples[n] for n in some])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    found -= found.mean(axis=0)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def main() -> None:
    """Print NDCG@20 and Recall@20 of each folder among the withheld items, on valid and on test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = ROOT.parent / "shared"
    parser.add_argument("--root", type=Path, default=shared / "data" / "movies")
    parser.add_argument("--base", type=Path, default=shared / "weights" / "all-MiniLM-L6-v2")
    parser.add_argument("--learned", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    items = pq.read_table(given.root / "items.parquet", columns=["item_id", "title", "text", "cold"]).to_pandas()
    rows = pq.read_table(given.root / "interactions.parquet").to_pandas()
    texts = [f"{title} {text or ''}" for title, text in zip(items.title, items.text, strict=True)]
    item_R = pd.Index(items.item_id).get_indexer(rows.item_id)
    users, user_R = np.unique(rows.user_id, return_inverse=True)
    cold_N = items.cold.to_numpy(bool)
    places_C = np.flatnonzero(cold_N)
    train = (rows.split == "train").to_numpy() & ~cold_N[item_R]
    taken_UN = csr_matrix(
        (np.ones(train.sum(), np.float32), (user_R[train], item_R[train])), shape=(len(users), len(items))
    )
    for folder in (given.base, *given.learned):
        vectors_ND = vectors_of(folder, texts)
        scores_UC = (taken_UN @ vectors_ND) @ vectors_ND[places_C].T
        best_UK = places_C[np.argsort(-scores_UC, axis=1, kind="stable")[:, :K]]
        for split in ("valid", "test"):
            held = (rows.split == split).to_numpy() & cold_N[item_R]
            wanted = [np.empty(0, np.int64)] * len(users)
            for user, mine in pd.Series(item_R[held]).groupby(user_R[held]):
                wanted[user] = np.unique(mine)
            judged_U = np.array([len(mine) > 0 for mine in wanted]) & (taken_UN.getnnz(axis=1) > 0)
            relevance = Relevance.from_lists([wanted[u] for u in np.flatnonzero(judged_U)])
            figures = ranking_metrics(best_UK[judged_U], relevance, [K], ("ndcg", "recall"))
            shown = " · ".join(f"{name} {values.mean():.4f}" for name, values in figures.items())
            print(f"{folder} {split}: {shown} ({judged_U.sum():,} users, {len(places_C):,} items)", flush=True)


if __name__ == "__main__":
    main()
