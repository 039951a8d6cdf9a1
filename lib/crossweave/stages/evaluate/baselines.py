"""The lists that simple recommenders make for the judged users."""

from __future__ import annotations

import numpy as np

from crossweave.errors import SettingsError
from crossweave.feeding.interactions import read_interactions
from crossweave.feeding.items import open_items
from crossweave.runtime.stage import StageContext
from crossweave.scoring.baselines import POPULARITY, fit_baseline, rank_baseline, why_not
from crossweave.stages.evaluate.manifest import last_manifest


def chosen_baselines(context: StageContext, protocol: str) -> tuple[list[str], dict[str, str]]:
    """Return the baselines that can be made tonight, popularity first, and why the others cannot."""
    settings, manifest = context.settings.evaluate, last_manifest(context)
    left_out: dict[str, str] = {}
    others = [name for name in dict.fromkeys(settings.baselines) if name != POPULARITY]
    for name in others:
        if manifest is None:
            left_out[name] = "the tensors that it learns from are gone"
            continue
        why = why_not(
            name,
            items=manifest.items,
            ease_items=settings.ease_items,
            modalities=len(manifest.modalities),
            cold=protocol == "cold",
            interactions=_interactions(context),
            knn=(settings.item_knn_items, settings.item_knn_interactions),
        )
        if why:
            left_out[name] = why
    return [POPULARITY, *(name for name in others if name not in left_out)], left_out


def baseline_lists(
    context: StageContext,
    protocol: str,
    histories: list[np.ndarray],
    seen: list[np.ndarray],
    popularity_N: np.ndarray,
    candidates_N: np.ndarray,
    k: int,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return each baseline's lists, int64 [users, k], popularity's first, and why others are left out.

    They learn from the tensors: the training rows of all users, under the cold protocol without the withheld items.
    """
    names, left_out = chosen_baselines(context, protocol)
    manifest, users = last_manifest(context), len(seen)
    lists = {POPULARITY: rank_baseline(None, histories, seen, popularity_N, candidates_N, k)}
    if manifest is None or names == [POPULARITY]:
        return lists, left_out
    items, seen_UN = open_items(manifest), read_interactions(manifest).seen_UN
    progress = context.progress("baselines", users * (len(names) - 1), "users")
    for done, name in enumerate(names[1:]):
        progress.update(done * users, f"fitting {name}")
        try:
            scorer = fit_baseline(name, seen_UN, items.vectors, items.present_NM)
        except (SettingsError, MemoryError) as error:  # a comparison less is no reason to lose the report
            left_out[name] = str(error) or "there was not memory enough to fit it"
            continue
        tick = lambda ranked, at=done * users, name=name: progress.update(at + ranked, name)  # noqa: E731
        lists[name] = rank_baseline(scorer, histories, seen, popularity_N, candidates_N, k, tick)
    progress.close(users * (len(names) - 1))
    return lists, left_out


def _interactions(context: StageContext) -> int:
    """Return how many interactions there are, of all splits: those of training are fewer."""
    version = context.receipts.required("ingest").writes["interactions"]
    return context.tables.required("interactions", version).rows
