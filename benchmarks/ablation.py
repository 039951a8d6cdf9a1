"""What each part of the model is worth: every modality off, every fusion, tower, head and loss, ids and blend off.

    python benchmarks/ablation.py --conf conf/movies.yaml --conf conf/pretrained.yaml --workspace WS \
        --rows-file WS/ablation.jsonl
"""

from __future__ import annotations

from collections.abc import Iterator

import offline
from offline import Variant

from crossweave.alignment import COLLABORATIVE, FUSIONS, HEADS, LOSSES, USER_TOWERS, find
from crossweave.alignment.losses.base import AlignmentLoss
from crossweave.config import Settings

FULL = "full"
ALIGNMENT_WEIGHT = 0.05  # of a loss that the settings do not use
EXTRA_WEIGHT = 0.1  # of one that ranks nothing
FIGURES = ("ndcg@20", "recall@20", "neural ndcg@20")


def variants(settings: Settings) -> Iterator[Variant]:
    """Every row of the table."""
    model = settings.model
    yield Variant(FULL, {})
    for name in COLLABORATIVE:
        alone = {f"model.collaborative.{other}": None for other in model.collaborative if other != name}
        settings_of_it = model.collaborative.get(name) or {}
        yield Variant(f"{name} alone", alone | {f"model.collaborative.{name}": settings_of_it}, neural=False)
        if name not in model.collaborative:
            yield Variant(f"blended with {name} too", {f"model.collaborative.{name}": {}})
    yield Variant("without ids", {"model.item_id": False})
    for name in settings.modalities:
        yield Variant(f"without {name}", {}, offline.without(name), f"without {name}")
    for name in sorted(FUSIONS):
        if name != model.fusion:
            yield Variant(f"fusion {name}", {"model.fusion": name}, blended=False)
    for name in sorted(USER_TOWERS):
        if name != model.user_tower:
            yield Variant(f"tower {name}", {"model.user_tower": name}, blended=False)
    for name in sorted(HEADS):
        if name != model.head:
            yield Variant(f"head {name}", {"model.head": name}, blended=False)
    alignment = [name for name in sorted(LOSSES) if issubclass(find(LOSSES, "loss", name), AlignmentLoss)]
    none = {f"model.losses.{name}": 0.0 for name in alignment if model.losses.get(name)}
    yield Variant("no alignment loss", none, blended=False)
    for name in alignment:
        if none != {f"model.losses.{name}": 0.0}:
            yield Variant(
                f"alignment {name}",
                none | {f"model.losses.{name}": model.losses.get(name, ALIGNMENT_WEIGHT)},
                blended=False,
            )
    for name in sorted(LOSSES):
        if name not in alignment and not getattr(find(LOSSES, "loss", name), "ranks", False):
            yield Variant(f"with {name}", {f"model.losses.{name}": EXTRA_WEIGHT}, blended=False)
    behaviour = [name for name in sorted(LOSSES) if getattr(find(LOSSES, "loss", name), "ranks", False)]
    off = {f"model.losses.{name}": 0.0 for name in behaviour if model.losses.get(name)}
    for name in behaviour:
        if off.keys() != {f"model.losses.{name}"}:
            yield Variant(f"behaviour {name} alone", off | {f"model.losses.{name}": 1.0}, blended=False)


def main() -> None:
    """Measure and write the table."""
    words = offline.parser(__doc__ or "")
    words.add_argument("--list", action="store_true", help="only name the rows")
    given = words.parse_args()
    settings = offline.settings_of(given)
    chosen = list(variants(settings))
    if given.list:
        print("\n".join(variant.name for variant in chosen))
        return
    table = offline.run_variants("ablation", given, chosen, settings)
    lines = [[row["name"], *offline.figures(row, FIGURES), *_told(row)] for row in table]
    notes = [
        f"Seed {settings.seed}, at most {settings.train.max_epochs} epochs. `alone`: the neural model",
        "without the blend; what is of the neural model only is measured there.",
        "A modality that is off is neither trained nor ranked with, nor is it in the content map. An alignment loss",
        f"that the settings do not use weighs {ALIGNMENT_WEIGHT}.",
    ]
    head = ["", *(f"{p} {what}" for p in offline.PROTOCOLS for what in ("NDCG@20", "Recall@20", "alone"))]
    head += ["blend (warm)", "s"]
    offline.keep_table("ablation", given, "What each part is worth", notes, [(head, lines)])


def _told(row: dict[str, dict[str, float]]) -> list[str]:
    parts = [row[protocol] for protocol in offline.PROTOCOLS if protocol in row]
    return [str(row.get("warm", {}).get("weights", "")), f"{sum(part['seconds'] for part in parts):.0f}"]


if __name__ == "__main__":
    main()
