"""Are the lists fit to be judged? Not where training or scoring knew what they are judged by."""

from __future__ import annotations

from pyspark.sql import functions as F

from crossweave.errors import LeakageError
from crossweave.feeding.leakage import check_tensors
from crossweave.runtime.stage import StageContext
from crossweave.stages.evaluate.manifest import last_manifest
from crossweave.tables.leakage import find_leakage, held_out_pairs
from crossweave.tables.scored_users import UserTables

NOBODY = -1  # a user whose number is not looked up


def check_lists(context: StageContext, reads: dict[str, int]) -> None:
    """Raise LeakageError where the lists of the last score stage know tonight's held-out rows.

    Tensors and score check themselves against the interactions that they read. What is left: settings that let score
    know test rows, and interactions that were parted anew since the model was trained or the lists were made.
    """
    receipts = context.receipts
    tensors, scored = receipts.required("tensors"), receipts.required("score")
    known_by_score = scored.details.held_out_known
    if known_by_score:
        raise LeakageError(
            f"the lists were made with {known_by_score:,} (user, item) pairs that they would be judged by",
            "take test out of score.history_splits and score.seen_splits and score again, or do not evaluate",
        )
    store = context.tables
    read = lambda name: store.read(context.spark, name, reads[name])  # noqa: E731
    cold = read("catalog").where("cold") if scored.details.protocol == "cold" else None
    held_out = held_out_pairs(read("history"), read("item_index"), cold)
    tables = ("history", "catalog") if cold is not None else ("history",)
    if any(scored.reads[name] != reads[name] for name in tables):
        settings = context.settings.score
        before = lambda name: store.read(context.spark, name, scored.reads[name])  # noqa: E731
        known = UserTables.of(before, scored.details.protocol, blocks=False).history
        used = known.where(F.col("split").isin(*settings.history_splits, *settings.seen_splits))
        used = used.join(read("item_index"), "item_id").withColumn("user_index", F.lit(NOBODY))
        find_leakage("the histories and seen items of the last score stage", used, held_out).refuse()
    manifest = last_manifest(context)
    if manifest is not None and any(tensors.reads[name] != reads[name] for name in tables):
        check_tensors(context.spark, manifest, read("user_index"), held_out)
