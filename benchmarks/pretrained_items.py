"""What an encoder's pretraining is worth for new items: rank withheld films by one modality alone, before and after.

A user is the sum of the centred unit vectors of what they took in training; a withheld item's score is its product
with that. No model is trained, so the figures say what the vectors themselves know of who will want an item. With
--pairs, a ridge regression from pictures to texts, fitted on all other films, ranks the withheld films' texts by their
posters, and their posters by their texts.

    python benchmarks/pretrained_items.py text path=MODEL path=WS/learned/FINGERPRINT/model precision=int8
    python benchmarks/pretrained_items.py image weights=WS/learned/FINGERPRINT/model/weights.safetensors --pairs
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from bench import ROOT
from scipy.sparse import csr_matrix

from crossweave.encoders import make_encoder
from crossweave.encoders.batching import encode_prepared
from crossweave.evaluation.metrics import Relevance, ranking_metrics

K = 20
SHARED = ROOT.parent / "shared"
HALVES = {"mean": [0.5] * 3, "std": [0.5] * 3}
OWN: dict[str, dict[str, Any]] = {
    "text": {"path": str(SHARED / "weights" / "all-MiniLM-L6-v2"), "precision": "float32", "backend": "eager"},
    "image": {
        "model": "mobilenet_v2",
        "weights": str(SHARED / "weights" / "mobilenet_v2_imagenet.safetensors"),
        "tf_same_padding": True,
        "precision": "float32",
        **HALVES,
    },
}


def vectors_of(modality: str, values: list[Any], **own: str) -> tuple[np.ndarray, float]:
    """Encode; unit vectors less their mean, float32 [N, D] (zero where there is none), and the milliseconds a content.

    Decoding and tokenising do not count.
    """
    kind = {"text": "transformer", "image": "torchvision"}[modality]
    encoder = make_encoder(modality, kind, OWN[modality] | own)
    encoder.load()
    there = [n for n, value in enumerate(values) if value]
    prepared = encoder.prepare([values[n] for n in there])
    start = time.perf_counter()
    made, positions, _ = encode_prepared(encoder, prepared)
    taken = 1000 * (time.perf_counter() - start) / max(1, len(made))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    made -= made.mean(axis=0)
    found = np.zeros((len(values), encoder.dim), np.float32)
    found[[there[position] for position in positions]] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return found, taken


class Films:
    """The catalog, what users took of it, and what is withheld."""

    def __init__(self, root: Path) -> None:
        columns = ["item_id", "title", "text", "image", "cold"]
        self.items = pq.read_table(root / "items.parquet", columns=columns).to_pandas()
        rows = pq.read_table(root / "interactions.parquet").to_pandas()
        item_R = pd.Index(self.items.item_id).get_indexer(rows.item_id)
        users, user_R = np.unique(rows.user_id, return_inverse=True)
        self.cold_N = self.items.cold.to_numpy(bool)
        train = (rows.split == "train").to_numpy() & ~self.cold_N[item_R]
        ones = np.ones(train.sum(), np.float32)
        self.taken_UN = csr_matrix((ones, (user_R[train], item_R[train])), shape=(len(users), len(self.items)))
        self.wanted = {}
        for split in ("valid", "test"):
            held = (rows.split == split).to_numpy() & self.cold_N[item_R]
            found = [np.empty(0, np.int64)] * len(users)
            for user, mine in pd.Series(item_R[held]).groupby(user_R[held]):
                found[user] = np.unique(mine)
            self.wanted[split] = found

    def contents(self, modality: str) -> list[Any]:
        """Return every film's text or poster."""
        if modality == "image":
            return list(self.items.image)
        return [f"{title} {text or ''}" for title, text in zip(self.items.title, self.items.text, strict=True)]

    def ranked(self, vectors_ND: np.ndarray) -> dict[str, dict[str, float]]:
        """Rank the withheld films for every user; NDCG@20 and Recall@20 by split."""
        places_C = np.flatnonzero(self.cold_N)
        scores_UC = (self.taken_UN @ vectors_ND) @ vectors_ND[places_C].T
        best_UK = places_C[np.argsort(-scores_UC, axis=1, kind="stable")[:, :K]]
        found = {}
        for split, wanted in self.wanted.items():
            judged_U = np.array([len(mine) > 0 for mine in wanted]) & (self.taken_UN.getnnz(axis=1) > 0)
            relevance = Relevance.from_lists([wanted[u] for u in np.flatnonzero(judged_U)])
            figures = ranking_metrics(best_UK[judged_U], relevance, [K], ("ndcg", "recall"))
            found[split] = {name: float(values.mean()) for name, values in figures.items()}
        return found

    def paired(self, pictures_ND: np.ndarray, texts_NE: np.ndarray, ridge: float = 1.0) -> tuple[float, float]:
        """Recall@10 of withheld films' texts by their posters, and of their posters by their texts."""
        both_N = pictures_ND.any(axis=1)
        learned, held = both_N & ~self.cold_N, both_N & self.cold_N
        x, y = pictures_ND[learned].astype(np.float64), texts_NE[learned].astype(np.float64)
        weights_DE = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)
        told = pictures_ND[held] @ weights_DE
        told /= np.linalg.norm(told, axis=1, keepdims=True)
        cosines = told @ texts_NE[held].T
        own = np.diag(cosines)
        return float(((cosines > own[:, None]).sum(axis=1) < 10).mean()), float(
            ((cosines > own[None, :]).sum(axis=0) < 10).mean()
        )


def main() -> None:
    """Print the figures of the encoder as it came, and of each one that is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modality", choices=sorted(OWN))
    parser.add_argument("encoders", nargs="*", metavar="SETTING=VALUE[,…]", help="what is set of the encoder")
    parser.add_argument("--root", type=Path, default=SHARED / "data" / "movies")
    parser.add_argument("--pairs", action="store_true", help="also how well posters and texts find each other")
    given = parser.parse_args()
    films = Films(given.root)
    contents = films.contents(given.modality)
    texts = vectors_of("text", films.contents("text"))[0] if given.pairs else None
    for words in ["", *given.encoders]:
        own = dict(word.split("=", 1) for word in words.split(",") if word)
        vectors, taken = vectors_of(given.modality, contents, **own)
        shown = [
            f"{split} ndcg {f['ndcg@20']:.4f} recall {f['recall@20']:.4f}" for split, f in films.ranked(vectors).items()
        ]
        if texts is not None:
            shown.append("texts by posters {:.4f}, posters by texts {:.4f}".format(*films.paired(vectors, texts)))
        print(f"{words or 'as it came'}: {' · '.join(shown)} · {taken:.2f} ms a content", flush=True)


if __name__ == "__main__":
    main()
