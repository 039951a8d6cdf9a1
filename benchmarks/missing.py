"""How quality falls as modalities go missing, with masks and modality dropout, and with the two usual ways out.

    python benchmarks/missing.py --conf conf/movies.yaml --conf conf/pretrained.yaml --workspace WS \
        --rows-file WS/missing.jsonl

A share of the (item, modality) cells is removed at random, for training and ranking alike. A larger share removes what
a smaller one does and more; nothing keeps an item from losing all it has, since nothing does in a catalog either.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import offline
from offline import Change, Variant

from crossweave.feeding.items import ItemTensors

METHODS = {
    "ours": "masked, with modality dropout",
    "mean": "missing vectors replaced by the modality's mean and taken for present",
    "drop": "items that lack any modality have no content at all",
}


def remove(method: str, share: float, seed: int) -> Change:
    """Return what removes a share of the cells and deals with the gaps by one of the methods."""

    def change(items: ItemTensors) -> ItemTensors:
        present_NM = items.present_NM & (np.random.default_rng(seed).random(items.present_NM.shape) >= share)
        if method == "drop":
            return replace(items, present_NM=present_NM & present_NM.all(axis=1, keepdims=True))
        if method == "ours":
            return replace(items, present_NM=present_NM)
        vectors = {}
        for place, (name, given) in enumerate(items.vectors.items()):
            vectors[name] = np.asarray(given, np.float32).copy()
            there_N = present_NM[:, place]
            vectors[name][~there_N] = vectors[name][there_N].mean(axis=0) if there_N.any() else 0.0
        return replace(items, vectors=vectors, present_NM=np.ones_like(present_NM))

    return change


def main() -> None:
    """Measure and write the tables."""
    words = offline.parser(__doc__ or "")
    words.add_argument("--shares", default="0,0.2,0.4,0.6,0.8")
    given = words.parse_args()
    settings = offline.settings_of(given)
    shares = [float(share) for share in given.shares.split(",")]
    chosen = [
        Variant(f"{method} {share:.0%}", {}, remove(method, share, settings.seed), f"{method} {share}")
        for share in shares
        for method in METHODS
    ]
    found = {row["name"]: row for row in offline.run_variants("missing", given, chosen, settings)}
    tables = []
    for figure, label in ((f"ndcg@{offline.K}", "blend"), (f"neural ndcg@{offline.K}", "neural alone")):
        head = [f"missing ({label})", *(f"{p} {method}" for p in offline.PROTOCOLS for method in METHODS)]
        lines = []
        for share in shares:
            cells = {m: offline.figures(found[f"{m} {share:.0%}"], [figure]) for m in METHODS}
            lines.append([f"{share:.0%}", *(cells[m][p] for p in range(len(offline.PROTOCOLS)) for m in METHODS)])
        tables.append((head, lines))
    notes = [
        f"NDCG@{offline.K}. Seed {settings.seed}, at most {settings.train.max_epochs} epochs.",
        *(f"`{method}`: {meaning}." for method, meaning in METHODS.items()),
    ]
    offline.keep_table("missing", given, "Quality as modalities go missing", notes, tables)


if __name__ == "__main__":
    main()
