"""The rules of a night: from settings and catalog to arrays for the tasks, and what they cost, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.artifacts.scored import ScoredVectors
from crossweave.config import Settings
from crossweave.scoring.caps import Cap
from crossweave.scoring.rules import BLOCKS, ItemRules, freshness_boost, reasons_for_short_list
from crossweave.stages.score.scorer import RULES
from crossweave.storage.location import Location
from crossweave.tables.item_rules import CatalogRules

BLAMED = "user_id string, rule string"


def catalog_rules(settings: Settings) -> CatalogRules:
    """Return the rules that the settings give."""
    rules = settings.score.rules
    return CatalogRules(
        rules.available,
        rules.allow,
        rules.block,
        {name: rule.items for name, rule in rules.segments.items()},
        tuple(rules.at_most),
        rules.freshness.column if rules.freshness.weight else None,
        settings.inputs.items.time_unit if rules.freshness.weight else "s",
    )


def item_rules(items: DataFrame, given: CatalogRules, settings: Settings) -> ItemRules:
    """Gather what `ruled_items` says of every item on the driver, by item index."""
    rows = items.orderBy("item_index").toPandas()
    limits, freshness = settings.score.rules.at_most, settings.score.rules.freshness
    open_NS = np.array(rows["open"].tolist(), bool).reshape(len(rows), len(given.segments))
    return ItemRules(
        given.names,
        rows["hidden"].to_numpy(np.uint32),
        tuple(given.segments),
        np.ascontiguousarray(open_NS.T),
        tuple(
            Cap.from_lists(name, limits[name], [own[place] for own in rows["categories"]])
            for place, name in enumerate(given.at_most)
        ),
        freshness_boost(rows["age"].to_numpy(np.float64), freshness.half_life_days, freshness.weight)
        if given.time
        else None,
    )


def count_rules(rules: ItemRules, candidate_N: np.ndarray) -> dict[str, float]:
    """Return how many candidates each rule hides: from everybody, or from the users of a segment."""
    hidden = {name: rules.hidden_N >> place & 1 for place, name in enumerate(rules.names)}
    hidden |= {f"segments.{name}": ~rules.open_SN[place] for place, name in enumerate(rules.segments)}
    return {f"rules.{name}.items": int((hides_N.astype(bool) & candidate_N).sum()) for name, hides_N in hidden.items()}


def blame(users: DataFrame, lists: DataFrame, item_index: DataFrame, folder: Location, top_k: int) -> dict[str, float]:
    """Return for each rule of how many users with fewer than `top_k` items it keeps one out that they could have had.

    `users` are those of the stage, `lists` the table recommendations, `folder` has the scored vectors.
    """
    listed = lists.join(item_index, "item_id").groupBy("user_id").agg(F.collect_list("item_index").alias("listed"))
    short = users.select("user_id", "seen", "blocked", "segments").join(listed, "user_id", "left")
    short = short.withColumn("listed", F.coalesce("listed", F.array().cast("array<int>")))
    blamed = short.where(F.size("listed") < top_k).mapInArrow(lambda batches: _blamed(folder, batches), BLAMED)
    return {f"rules.{row['rule']}.users_short": row["count"] for row in blamed.groupBy("rule").count().collect()}


def _blamed(folder: Location, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    scored = ScoredVectors.open(folder)
    rules, candidate_N = ItemRules.load(scored.sealed.path(RULES)), scored.candidate_N
    for batch in batches:
        users: list[str] = []
        names: list[str] = []
        for user in batch.to_pylist():
            own = [np.array(user[column], np.int64) for column in ("seen", "blocked", "listed")]
            found = reasons_for_short_list(rules, candidate_N, user["segments"], *own)
            users += [user["user_id"]] * len(found)
            names += found
        yield pa.RecordBatch.from_arrays(
            [pa.array(users, pa.string()), pa.array(names, pa.string())], ["user_id", "rule"]
        )


def blocked_pairs(users: DataFrame) -> dict[str, float]:
    """Return how many (user, item) pairs the users' own blocks keep apart."""
    found = users.agg(F.coalesce(F.sum(F.size("blocked")), F.lit(0))).first()
    return {f"rules.{BLOCKS}.pairs": found[0] if found else 0}
