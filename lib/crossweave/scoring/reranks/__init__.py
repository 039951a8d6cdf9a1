"""Re-ranking: steps that put a user's best candidates in another order, each one module and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossweave.alignment import build, find
from crossweave.alignment.part_settings import check_call
from crossweave.scoring.reranks.base import Rerank

RERANKS: dict[str, str] = {
    "mmr": "crossweave.scoring.reranks.mmr:Mmr",
    "popularity": "crossweave.scoring.reranks.popularity:Popularity",
}


def build_reranks(steps: Mapping[str, Mapping[str, Any] | None]) -> list[Rerank]:
    """Build the steps in their order, leaving out those that are null.

    Raises SettingsError for an unknown name or unfit settings.
    """
    chosen = {name: own for name, own in steps.items() if own is not None}
    for name, own in chosen.items():
        check_call(find(RERANKS, "re-rank step", name), own, f"score.rerank.{name}")
    return [build(RERANKS, "re-rank step", name, **own) for name, own in chosen.items()]
