"""The spaces that the report draws: a sample of item vectors as a map, and texts that look for pictures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from crossweave.evaluation.embedding_map import lay_out, neighbours_kept
from crossweave.evaluation.report_content import EmbeddingMap, FoundPicture, MapPoint, Retrieval, RetrievalExample
from crossweave.evaluation.retrieval import Found, cross_recalls, find_others
from crossweave.feeding.items import ItemTensors, open_items
from crossweave.stages.evaluate.judging import Judging
from crossweave.stages.evaluate.manifest import last_manifest
from crossweave.stages.evaluate.shown import SEPARATOR, ShownItems, first_modality
from crossweave.training.item_tower import gather_items

PICTURES_FOUND = 5


def item_tensors(judging: Judging) -> ItemTensors | None:
    """Return the item tensors that the model was trained on, or None where they are gone."""
    manifest = last_manifest(judging.context)
    return None if manifest is None else open_items(manifest)


def with_vector(items: ItemTensors | None, modality: str | None) -> np.ndarray:
    """Return the indices of the items that have a vector in a modality: their contents are known to be sound."""
    if items is None or modality not in items.vectors:
        return np.empty(0, np.int64)
    return np.flatnonzero(items.present_NM[:, list(items.vectors).index(modality)])


@dataclass(frozen=True)
class MapPlan:
    """Which items are on the map, and where."""

    items_S: np.ndarray
    places_S2: np.ndarray
    kept: float | None

    def drawn(self, judging: Judging, shown: ShownItems) -> EmbeddingMap | None:
        """Return the map for the page, or None where no item is on it."""
        if not len(self.items_S):
            return None
        points = [
            MapPoint(float(x), float(y), judging.title(i), shown[i].category, shown[i].picture)
            for i, (x, y) in zip(self.items_S.tolist(), self.places_S2, strict=True)
        ]
        return EmbeddingMap(points, len(judging.items), shown.colour, self.kept)


def plan_map(judging: Judging) -> MapPlan:
    """Draw items by the seed and lay them out by the vectors that scores are made of."""
    assert judging.data is not None
    vectors_ND = judging.data.vectors_ND
    wanted = min(judging.settings.evaluate.map_items, len(vectors_ND))
    chosen = np.sort(np.random.default_rng(judging.settings.seed).choice(len(vectors_ND), wanted, replace=False))
    places = lay_out(vectors_ND[chosen])
    return MapPlan(chosen, places, neighbours_kept(vectors_ND[chosen], places) if wanted > 1 else None)


@dataclass(frozen=True)
class RetrievalPlan:
    """What texts found which pictures, as rows of a sample."""

    outcome: Retrieval  # without examples
    items_S: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    found: tuple[Found, ...] = ()

    @property
    def items(self) -> set[int]:
        """Indices of all items that are shown."""
        rows = {row for f in self.found for row in [f.query, *f.items_K.tolist()]}
        return {int(self.items_S[row]) for row in rows}

    def drawn(self, judging: Judging, shown: ShownItems) -> Retrieval:
        """Return the figures and examples for the page."""

        def picture(row: int, cosine: float, query: int) -> FoundPicture:
            index = int(self.items_S[row])
            return FoundPicture(judging.title(index), shown[index].picture, cosine, row == query)

        def text(index: int) -> str:
            return shown[index].text.removeprefix(judging.title(index)).removeprefix(SEPARATOR)

        examples = [
            RetrievalExample(
                judging.title(int(self.items_S[f.query])),
                text(int(self.items_S[f.query])),
                [picture(int(r), float(c), f.query) for r, c in zip(f.items_K, f.cosines_K, strict=True)],
                f.own_rank,
                picture(f.query, f.own_cosine, f.query),
            )
            for f in self.found
        ]
        return replace(self.outcome, examples=examples)


def plan_retrieval(judging: Judging, items: ItemTensors | None) -> RetrievalPlan:
    """Let the texts of a sample of items look for its pictures in the aligned space, and the other way round."""
    settings = judging.settings
    text, image = first_modality(settings, "text"), first_modality(settings, "image")
    if text is None or image is None:
        return RetrievalPlan(Retrieval(absent="It needs a modality of kind text and one of kind image."))
    if items is None:
        return RetrievalPlan(Retrieval(absent="The tensors of this model are gone."))
    both = np.intersect1d(with_vector(items, text), with_vector(items, image))
    random = np.random.default_rng(settings.seed)
    sample_S = np.sort(random.choice(both, min(settings.evaluate.retrieval_items, len(both)), replace=False))
    if len(sample_S) < 2:
        return RetrievalPlan(Retrieval(absent="Fewer than two items have both a text and a picture."))
    model, batch = judging.model.load(), gather_items(items, sample_S)
    with torch.inference_mode():
        tokens_SMD = model.tokens(batch.vectors, batch.present_SM).numpy()
    left_SD, right_SD = (tokens_SMD[:, list(items.vectors).index(name)] for name in (text, image))
    recalls = [(k, there, back) for k, (there, back) in cross_recalls(left_SD, right_SD).items()]
    queries = random.choice(len(sample_S), min(settings.evaluate.retrieval_examples, len(sample_S)), replace=False)
    found = find_others(left_SD, right_SD, queries.tolist(), PICTURES_FOUND)
    return RetrievalPlan(Retrieval(text, image, len(sample_S), recalls), sample_S, tuple(found))
