"""Modality vectors in the layout that MMRec reads, so that its models run on the same catalog."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from pyspark.sql import functions as F

from crossweave.feeding.items import open_items
from crossweave.stages.export.source import Source

SPLITS = {"train": 0, "valid": 1, "test": 2}
FORMULA, NUMBER = r"^('?[=+\-@\t\r\n＝＋－＠])", r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
TABS = csv.WriteOptions(delimiter="\t", quoting_style="needed")


def mmrec(source: Source, folder: Path) -> tuple[int, int]:
    """Write NAME_feat.npy (float32 [items, dim]), crossweave.inter and the id mappings, numbered as MMRec wants them.

    The first modality of kind text is text_feat.npy, the first of kind image image_feat.npy, others carry their names.
    MMRec knows no missing vectors: they are the mean of those there, and NAME_present.npy says which are real.
    """
    items, kinds = open_items(source.manifest), {n: m.kind for n, m in source.context.settings.modalities.items()}
    taken: set[str] = set()
    for place, (name, vectors_NF) in enumerate(items.vectors.items()):
        kind = kinds.get(name, name)
        label = kind if kind in ("text", "image") and kind not in taken else name
        taken.add(label)
        filled_NF, present_N = np.asarray(vectors_NF, np.float32).copy(), items.present_NM[:, place]
        if present_N.any():
            filled_NF[~present_N] = filled_NF[present_N].mean(axis=0)
        np.save(folder / f"{label}_feat.npy", filled_NF)
        np.save(folder / f"{label}_present.npy", present_N)
    numbered = pa.table({"item_id": as_cells(source.item_ids), "itemID": pa.array(np.arange(items.count))})
    csv.write_csv(numbered, folder / "i_id_mapping.csv", TABS)
    due, written = _interactions(source, folder)
    return items.count + due, len(numbered) + written


def as_cells(ids: pa.Array) -> pa.Array:
    """Return ids as a spreadsheet may open them: before what it would take for a formula stands an apostrophe.

    Numbers stay numbers. Who reads the file takes an apostrophe away that stands before = + - @ or a tab.
    """
    if not pa.types.is_string(ids.type):
        return ids
    return pc.if_else(pc.match_substring_regex(ids, NUMBER), ids, pc.replace_substring_regex(ids, FORMULA, r"'\1"))


def _interactions(source: Source, folder: Path) -> tuple[int, int]:
    """Write the interactions by number, and the users' numbers: those of the ids in their order."""
    spark = source.context.spark
    read = lambda name: source.store.read(spark, name, source.scored.reads[name])  # noqa: E731
    pairs = read("history")
    due = pairs.count()
    numbered = pairs.join(read("item_index"), "item_id").orderBy(
        "user_id", F.col("event_time").asc_nulls_first(), "item_index"
    )
    frame = numbered.select("user_id", "item_index", "split").toPandas()
    users = np.unique(frame["user_id"])
    columns = {
        "userID": pa.array(np.searchsorted(users, frame["user_id"])),
        "itemID": pa.array(frame["item_index"].to_numpy()),
        "x_label": pa.array(frame["split"].map(SPLITS).to_numpy()),
    }
    csv.write_csv(pa.table(columns), folder / "crossweave.inter", TABS)
    numbers = pa.table({"user_id": as_cells(pa.array(users, pa.string())), "userID": pa.array(np.arange(len(users)))})
    csv.write_csv(numbers, folder / "u_id_mapping.csv", TABS)
    return due, len(frame)
