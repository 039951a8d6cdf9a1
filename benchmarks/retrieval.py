"""Finds an item's picture by its text and its text by its picture, among items that no alignment has seen.

    python benchmarks/retrieval.py --conf conf/movies.yaml --conf conf/pretrained.yaml --workspace WS

15 % of the items are hidden from the training with all their content. Candidates are all hidden items that have both.
Against it: the vectors as the encoders made them, and regularised canonical correlations (Hotelling 1936; scaled by
powers of the correlations after Gong et al. 2014) whose ridge, width and power a part of the other items chose.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import offline
import torch

from crossweave.config import Settings, override
from crossweave.feeding.items import ItemTensors
from crossweave.training.item_tower import gather_items

KS = (1, 5, 10)
HELD_OUT = 0.15
VALIDATION = 0.15  # of the other items, to tune the canonical correlations
RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # times the mean variance of a number
WIDTHS = (8, 16, 32, 64, 128, 256)
POWERS = (0.0, 1.0, 2.0, 4.0)
OURS: dict[str, dict[str, Any]] = {
    "aligned": {},
    "aligned, InfoNCE at 1": {"model.losses.infonce": 1.0},
}


def recalls(left_QD: np.ndarray, right_QD: np.ndarray) -> dict[str, float]:
    """Recall@K in both directions; row q of both sides is one item, likeness is the cosine, a tie counts as lost."""
    left_QD, right_QD = (
        side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9) for side in (left_QD, right_QD)
    )
    scores_QQ = left_QD @ right_QD.T
    found: dict[str, float] = {}
    for arrow, scores in (("→", scores_QQ), ("←", scores_QQ.T)):
        before_Q = (scores >= np.diag(scores)[:, None]).sum(axis=1) - 1
        found |= {f"{arrow}@{k}": float((before_Q < k).mean()) for k in KS}
    return found


class Correlations:
    """Regularised canonical correlation analysis of two sides of the same items."""

    def __init__(self, left_NP: np.ndarray, right_NQ: np.ndarray, ridge: float) -> None:
        self.means = left_NP.mean(axis=0), right_NQ.mean(axis=0)
        left, right = left_NP - self.means[0], right_NQ - self.means[1]
        roots = [np.linalg.cholesky(_regularised(side.T @ side / len(side), ridge)) for side in (left, right)]
        # whitened cross-covariance; its singular values are the canonical correlations
        whitened = np.linalg.solve(roots[0], np.linalg.solve(roots[1], (left.T @ right / len(left)).T).T)
        first, self.values, second = np.linalg.svd(whitened, full_matrices=False)
        self.maps = np.linalg.solve(roots[0].T, first), np.linalg.solve(roots[1].T, second.T)

    def project(self, left: np.ndarray, right: np.ndarray, width: int, power: float) -> tuple[np.ndarray, np.ndarray]:
        """Both sides in the common space."""
        scale = self.values[:width] ** power
        one, other = (
            (side - mean) @ into[:, :width] * scale
            for side, mean, into in zip((left, right), self.means, self.maps, strict=True)
        )
        return one, other


def _regularised(covariance: np.ndarray, ridge: float) -> np.ndarray:
    return covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))


def correlated(
    items: Mapping[str, np.ndarray], known: np.ndarray, hidden: np.ndarray, names: list[str], seed: int
) -> dict[str, Any]:
    """Recalls of canonical correlations tuned on a part of the known items, fitted on all of them."""
    order = np.random.default_rng(seed + 1).permutation(known)
    cut = round(VALIDATION * len(order))
    tuned, fitted = order[:cut], order[cut:]
    left, right = (np.asarray(items[name], np.float64) for name in names)
    best = (-1.0, 0.0, 0, 0.0)
    for ridge in RIDGES:
        model = Correlations(left[fitted], right[fitted], ridge)
        for width in WIDTHS:
            for power in POWERS:
                got = recalls(*model.project(left[tuned], right[tuned], width, power))
                best = max(best, (got["→@10"] + got["←@10"], ridge, width, power))
    _, ridge, width, power = best
    model = Correlations(left[known], right[known], ridge)
    return recalls(*model.project(left[hidden], right[hidden], width, power)) | {
        "how": f"ridge {ridge}, {width} components, power {power:g}"
    }


def hide(held_out: np.ndarray) -> Callable[[ItemTensors], ItemTensors]:
    """Return what takes all content from these items."""

    def change(items: ItemTensors) -> ItemTensors:
        present_NM = items.present_NM.copy()
        present_NM[held_out] = False
        return replace(items, present_NM=present_NM)

    return change


def aligned(
    settings: Settings, side: offline.Side, hidden: np.ndarray, held_out: np.ndarray, names: list[str], work: Path
) -> dict[str, Any]:
    """Recalls of the model's tokens, trained without what is held out."""
    changed = f"without content of {len(held_out)} items by seed {settings.seed}"
    model = offline.fitted(settings, side, hide(held_out)(side.items), changed, work)
    batch = gather_items(side.items, hidden)
    with torch.inference_mode():
        tokens_SMD = model.tokens(batch.vectors, batch.present_SM).numpy()
    left, right = (list(side.items.vectors).index(name) for name in names)
    return recalls(tokens_SMD[:, left], tokens_SMD[:, right]) | {"how": f"{tokens_SMD.shape[2]} numbers"}


def main() -> None:
    """Measure and write the table."""
    words = offline.parser(__doc__ or "")
    words.add_argument("--left", default="text")
    words.add_argument("--right", default="image")
    given = words.parse_args()
    settings, names = offline.settings_of(given), [given.left, given.right]
    side = offline.open_side(given.workspace, given.protocols.split(",")[0])
    vectors = side.items.vectors
    if unknown := set(names) - set(vectors):
        raise SystemExit(f"there is no modality {', '.join(unknown)}; there are {', '.join(vectors)}")
    order = np.random.default_rng(settings.seed).permutation(side.items.count)
    held_out = np.sort(order[: round(HELD_OUT * side.items.count)])
    has_N = side.items.present_NM[:, [list(vectors).index(name) for name in names]].all(axis=1)
    hidden = held_out[has_N[held_out]]
    known = np.setdiff1d(np.flatnonzero(has_N), held_out)
    dims = [vectors[name].shape[1] for name in names]
    rows, work = offline.Rows(given.rows_file, "retrieval"), given.work or given.workspace / "offline"

    def raw() -> dict[str, Any]:
        if dims[0] != dims[1]:
            return {"how": f"not defined: {dims[0]} numbers against {dims[1]}"}
        mean = [np.asarray(vectors[name][known], np.float32).mean(axis=0) for name in names]
        return recalls(*(np.asarray(vectors[n][hidden], np.float32) - m for n, m in zip(names, mean, strict=True)))

    facts = [side.manifest.fingerprint, names, settings.seed]
    makers: dict[str, tuple[list[Any], Callable[[], dict[str, Any]]]] = {
        "chance": (facts, lambda: {f"{arrow}@{k}": min(1.0, k / len(hidden)) for arrow in "→←" for k in KS}),
        "encoders' own vectors, centred": (facts, raw),
        "canonical correlations": (facts, lambda: correlated(vectors, known, hidden, names, settings.seed)),
    }
    for name, values in OURS.items():
        own = override(settings, values, name)
        decides = own.model_dump(mode="json", include={"model", "train", "seed"})
        makers[name] = [*facts, decides], functools.partial(aligned, own, side, hidden, held_out, names, work)
    lines = []
    for name, (own_facts, make) in makers.items():
        if given.only and name not in given.only:
            continue
        row = rows.get(name, own_facts, make)
        cells = [f"{row[f'{arrow}@{k}']:.4f}" if f"{arrow}@{k}" in row else "" for arrow in "→←" for k in KS]
        lines.append([name, *cells, str(row.get("how", ""))])
    notes = [
        f"{len(hidden)} of {len(held_out)} hidden items have both; {len(known)} others do. Seed {settings.seed},",
        f"at most {settings.train.max_epochs} epochs; the one that ranks best on validation, not that retrieves best.",
    ]
    arrows = {"→": f"{names[0]} → {names[1]}", "←": f"{names[1]} → {names[0]}"}
    head = ["", *(f"{arrows[arrow]} R@{k}" for arrow in "→←" for k in KS), ""]
    offline.keep_table("retrieval", given, f"Retrieval between {names[0]} and {names[1]}", notes, [(head, lines)])


if __name__ == "__main__":
    main()
