"""Query: what a user gets, what is near an item, what a sentence finds; reads what is served and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F

from crossweave.artifacts.learned import LearnedEncoder
from crossweave.config import Settings
from crossweave.encoders import make_encoder
from crossweave.encoders.base import Encoder
from crossweave.errors import SettingsError
from crossweave.evaluation.sentences import sentence
from crossweave.feeding.items import open_items
from crossweave.runtime.made import Made
from crossweave.scoring.topk import PAD, top_k
from crossweave.storage.location import Location
from crossweave.tables.encoder_states import EncoderStates
from crossweave.tables.receipts import Receipts
from crossweave.tables.schema import feature_table
from crossweave.tables.served import load_served, served_chain
from crossweave.tables.store import TableStore
from crossweave.training.item_tower import gather_items

ITEMS_AT_ONCE = 4096


@dataclass(frozen=True)
class Answer:
    """A ranked table: one row an item."""

    title: str
    rows: list[tuple[int, str, str, float, str]]  # rank, item id, title, score, why


class Query:
    """The served chain of a workspace, asked without Spark."""

    def __init__(self, settings: Settings) -> None:
        """Raise SettingsError where nothing was scored yet, or nothing is served."""
        self.settings, self.workspace = settings, Location.of(settings.workspace)
        self.chain = served_chain(self.workspace, gated=settings.evaluate.gate is not None)
        self.scored, self.made = self.chain.score, Made(self.workspace, self.chain)
        self.store = TableStore(self.workspace / "tables")

    def user(self, user_id: str, most: int) -> Answer:
        """What a user gets, with a sentence why. Raises SettingsError for a user without recommendations."""
        rows = self._table("recommendations", self.scored.writes["recommendations"], pc.field("user_id") == user_id)
        if not rows.num_rows:
            raise SettingsError(f"there are no recommendations for user {user_id}", "ids are written as in the input")
        found = [row for row in rows.sort_by("rank").to_pylist() if row["rank"] is not None][:most]
        near = {place["item_id"] for row in found for place in row.get("because") or []}
        titles = self._titles({row["item_id"] for row in found} | near)
        return Answer(
            f"user {user_id}",
            [
                (
                    row["rank"],
                    row["item_id"],
                    titles[row["item_id"]],
                    row["score"],
                    sentence(dict(row["reasons"]), [titles[place["item_id"]] for place in row.get("because") or []]),
                )
                for row in found
            ],
        )

    def item(self, item_id: str, most: int) -> Answer:
        """The items nearest to one, by the cosine of their vectors less the mean, as the reasons measure it.

        Raises SettingsError for an item that was not scored.
        """
        ids = self.made.vectors.item_ids
        place = pc.index(ids, item_id).as_py()
        if place < 0:
            raise SettingsError(f"there is no item {item_id} among those scored", "ids are written as in the input")
        vectors_NE = torch.from_numpy(self.made.vectors.target_NE)
        unit_NE = F.normalize(vectors_NE - vectors_NE.mean(dim=0), dim=1)
        return self._nearest(f"items near {item_id}", unit_NE, unit_NE[place : place + 1], most, [place])

    def text(self, words: str, most: int, modality: str | None = None) -> Answer:
        """The items that a sentence finds in the aligned space: its token against the mean of each item's tokens.

        Raises SettingsError where no modality is of kind text, or its encoder has learned nothing yet.
        """
        name = self._text_modality(modality)
        encoder = self._encoder(name)
        encoder.load()
        prepared = encoder.prepare([words])
        if prepared.failures:
            raise SettingsError(f"the text cannot be encoded: {prepared.failures[0].detail}")
        model, items = self.made.model.load(), open_items(self.made.manifest)
        with torch.inference_mode():
            vector_1F = torch.from_numpy(encoder.encode(prepared.examples))
            query_1D = F.normalize(model.projectors[name](vector_1F), dim=1)
            parts = []
            for start in range(0, items.count, ITEMS_AT_ONCE):
                batch = gather_items(items, np.arange(start, min(start + ITEMS_AT_ONCE, items.count)))
                tokens_SMD = F.normalize(model.tokens(batch.vectors, batch.present_SM), dim=2)
                total_S1 = batch.present_SM.sum(dim=1, keepdim=True).clamp(min=1)
                parts.append(tokens_SMD.sum(dim=1) / total_S1)
        return self._nearest(f"items that “{words}” finds, by {name}", torch.cat(parts), query_1D, most, [])

    def _encoder(self, name: str) -> Encoder:
        """Return the encoder whose vectors were served: as the settings name it, or with what it had learned by then.

        Raises SettingsError where there is none of that fingerprint.
        """
        encoder_name = self.settings.modalities[name].encoder
        spec, states = self.settings.encoders[encoder_name], EncoderStates(self.workspace)
        pretrain = Receipts(self.workspace).latest("pretrain")
        learned = pretrain.details.of(encoder_name) if pretrain is not None else []
        served = load_served(self.workspace)  # after a rollback stage pretrain may have gone on to others
        promoted = served.generations[served.now].promotion.learned if served is not None else {}
        learned = list(dict.fromkeys(filter(None, [*learned, promoted.get(name)])))
        begun = [] if self.settings.pretrain.is_fresh(encoder_name) else [""]
        for fingerprint in (*learned, *begun):
            files = LearnedEncoder.open(self.workspace, fingerprint).places() if fingerprint else {}
            encoder = make_encoder("text", spec.type, {**spec.own, **files})
            fitted = states.load(name, encoder.identity).hand_to(encoder) or not encoder.learns
            if fitted and feature_table(name, encoder.fingerprint) in self.chain.tensors.reads:
                return encoder
        raise SettingsError(
            f"the encoder of {name} is not the one whose vectors are served",
            "ask with the settings of that run, or run ./submit.sh pipeline with these",
        )

    def _text_modality(self, wanted: str | None) -> str:
        texts = [name for name, modality in self.settings.modalities.items() if modality.kind == "text"]
        if not texts or (wanted is not None and wanted not in texts):
            known = ", ".join(texts) or "none"
            raise SettingsError(f"no modality {wanted or 'of kind text'} takes a sentence; there are: {known}")
        return wanted or texts[0]

    def _nearest(self, title: str, item_ND: torch.Tensor, query_1D: torch.Tensor, most: int, own: list[int]) -> Answer:
        everything = torch.ones(len(item_ND), dtype=torch.bool)
        best = top_k(query_1D, item_ND, torch.zeros(len(item_ND)), most, allowed_N=everything, masked=[np.array(own)])
        ids = self.made.vectors.item_ids
        places = [place for place in best.items_UK[0].tolist() if place != PAD]
        found = [ids[place].as_py() for place in places]
        titles = self._titles(set(found))
        scores = best.scores_UK[0].tolist()
        return Answer(title, [(n + 1, item, titles[item], scores[n], "") for n, item in enumerate(found)])

    def _titles(self, items: set[str]) -> dict[str, str]:
        wanted = pc.field("item_id").isin(sorted(items))
        rows = self._table("catalog", self.scored.reads["catalog"], wanted, ["item_id", "title"])
        titles = {row["item_id"]: row["title"] or "" for row in rows.to_pylist()}
        return {item: titles.get(item, "") for item in items}

    def _table(self, name: str, version: int, where: Any, columns: Sequence[str] | None = None) -> pa.Table:
        return self.store.required(name, version).rows_where(where, columns)
