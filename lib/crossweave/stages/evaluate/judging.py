"""What evaluation judges: the lists of every user with something relevant, and what they are compared with."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from crossweave.errors import InputContractError, TableError
from crossweave.evaluation.fairness import GroupFigures, judge_groups
from crossweave.evaluation.judge import Judged, compare_lists, compared_metrics, judge
from crossweave.evaluation.metrics import Relevance
from crossweave.evaluation.report_content import ComparisonRow, MetricRow, SliceRow
from crossweave.runtime.made import Made
from crossweave.runtime.stage import StageContext
from crossweave.scoring.topk import PAD
from crossweave.stages.evaluate.baselines import baseline_lists
from crossweave.stages.evaluate.slicing import item_ages, item_groups, user_groups
from crossweave.tables.served import Chain

PREVIOUS = "the run before"


class Judging:
    """One evaluation: the tables it reads and the users it judges."""

    def __init__(self, context: StageContext, reads: dict[str, int], chain: Chain) -> None:
        self.context, self.settings, self.protocol = context, context.settings, chain.protocol
        self.spark, self.workspace = context.spark, context.workspace
        made = Made(self.workspace, chain)
        self.model, self.scored = made.model, made.vectors
        self.store = context.tables
        self.reads = reads
        self.index = self.store.read(self.spark, "item_index", reads["item_index"])
        # Removed items too: they keep their place in the index.
        catalog = self.store.read(self.spark, "catalog", reads["catalog"])
        self.known = catalog.join(self.index, "item_id")
        columns = ("item_index", "item_id", "title", "cold", F.map_keys("hashes").alias("has"))
        self.items = self.known.select(*columns).orderBy("item_index").toPandas()
        self.events = self._events()
        self.users_in = 0
        self.users: list[str] = []
        self.data: Judged | None = None
        self.comparisons: list[ComparisonRow] = []
        self.gaps: dict[str, float] = {}  # between groups of users, of items
        self.left_out: dict[str, str] = {}  # what the lists are not compared with -> why

    def _events(self) -> DataFrame:
        """Return the (user, item) pairs with item indices and whether the item is withheld."""
        pairs = self._read("history").join(self.known.select("item_id", "item_index", "cold"), "item_id")
        return pairs.select("user_id", "item_index", "split", "cold", "event_time", "weight")

    def judge(self, previous: int | None) -> tuple[list[MetricRow], list[SliceRow]]:
        """Judge the lists of every user that has something relevant, also beside a `previous` version of the table."""
        trained = F.col("split") == "train"
        if self.protocol == "cold":
            relevant, seen, trained = F.col("cold"), F.lit(False), trained & ~F.col("cold")
        else:
            relevant, seen = F.col("split") == "test", F.col("split").isin(*self.settings.score.seen_splits)
        pick = lambda rule: F.sort_array(F.collect_set(F.when(rule, F.col("item_index"))))  # noqa: E731
        by_user = self.events.groupBy("user_id").agg(
            pick(relevant).alias("relevant"), pick(seen).alias("seen"), pick(trained).alias("history")
        )
        everybody = by_user.join(self._lists("recommendations"), "user_id", "full_outer")
        if "lists_before" in self.reads:
            before = self._lists("lists_before").withColumnRenamed("recommended", "before")
            everybody = everybody.join(before.drop("explored"), "user_id", "left")
        if (earlier := self._earlier(previous)) is not None:
            everybody = everybody.join(earlier, "user_id", "left")
        self.users_in = everybody.count()
        judged = everybody.where(F.size("relevant") > 0).orderBy("user_id").toPandas()
        if judged.empty:
            raise InputContractError(
                f"no user has a relevant item under the {self.protocol} protocol, so there is nothing to judge by",
                "check split.method, the split column and the quarantine",
            )
        self.users = judged["user_id"].tolist()
        popularity = self.events.where(trained).groupBy("item_index").count().toPandas()
        popularity_N = np.zeros(len(self.items))
        popularity_N[popularity["item_index"]] = popularity["count"]
        modalities = len(self.settings.modalities)
        candidates_N = self.items["cold"].to_numpy(bool) if self.protocol == "cold" else np.ones(len(self.items), bool)
        width = self.settings.score.top_k
        self.data = Judged(
            recommended_UK=_padded(judged["recommended"], width),
            baselines=self._baselines(judged, popularity_N, candidates_N, width),
            relevance=Relevance.from_lists(judged["relevant"]),
            histories=Relevance.from_lists(judged["history"]),
            candidates_U=_candidates(candidates_N, judged["seen"], judged["relevant"]),
            vectors_ND=self._item_vectors(),
            popularity_N=popularity_N,
            candidates_N=candidates_N,
            missing_N=modalities - self.items["has"].map(len).to_numpy(np.int64),
            before_UK=_padded(judged["before"], width) if "before" in judged else None,
            explored_UK=_padded(judged["explored"], width) == 1,
        )
        evaluate = self.settings.evaluate
        others = dict(self.data.baselines)
        if "earlier" in judged:
            others = {PREVIOUS: _padded(judged["earlier"], width)} | others
        metrics = compared_metrics(self.headline_k, evaluate.gate.metric if evaluate.gate is not None else None)
        self.comparisons = compare_lists(
            self.data, others, metrics, seed=self.settings.seed, resamples=evaluate.bootstrap
        )
        rows, slices = judge(self.data, evaluate.ks, seed=self.settings.seed, resamples=evaluate.bootstrap)
        grouped = self._grouped(self.data)
        self.gaps = grouped.metrics
        return rows, slices + grouped.rows

    def _grouped(self, data: Judged) -> GroupFigures:
        """Slice what is judged by the attributes of the settings and by the age of the items."""
        evaluate, read = self.settings.evaluate, self._read
        return judge_groups(
            data,
            evaluate.ks,
            self.headline_k,
            user_groups=user_groups(read("users"), self.users, evaluate.user_slices) if evaluate.user_slices else (),
            item_groups=item_groups(self.known, evaluate.item_slices) if evaluate.item_slices else (),
            age_N=item_ages(self.known, read("history"), self.settings, self.protocol),
            least=evaluate.min_group,
        )

    def _read(self, table: str) -> DataFrame:
        return self.store.read(self.spark, table, self.reads[table])

    def _baselines(
        self, judged: pd.DataFrame, popularity_N: np.ndarray, candidates_N: np.ndarray, k: int
    ) -> dict[str, np.ndarray]:
        """Return the lists of the same users by simple recommenders, which learn from training rows alone."""
        lists, left_out = baseline_lists(
            self.context,
            self.protocol,
            [np.asarray(items, np.int64) for items in judged["history"]],
            [np.asarray(items, np.int64) for items in judged["seen"]],
            popularity_N,
            candidates_N,
            k,
        )
        self.left_out |= left_out
        return lists

    def title(self, index: int) -> str:
        """What to call an item by its index: its title, or its id where it has none."""
        return str(self.items["title"].iat[index] or self.items["item_id"].iat[index])

    def _item_vectors(self) -> np.ndarray:
        """Return what scoring multiplies users with, less the mean: what all items share makes none alike."""
        vectors_ND = self.scored.target_NE
        return np.asarray(vectors_ND - vectors_ND.mean(axis=0))

    def _earlier(self, version: int | None) -> DataFrame | None:
        """Return user_id and earlier, the lists of another version, where that is still to be read and is another."""
        if version is None or version == self.reads["recommendations"]:
            return None
        try:
            lists = self._lists("recommendations", version)
        except TableError:
            self.left_out[PREVIOUS] = "its lists cannot be read any more"  # garbage collection took them
            return None
        return lists.select("user_id", F.slice("recommended", 1, self.settings.score.top_k).alias("earlier"))

    @property
    def headline_k(self) -> int:
        """The K of the summary: the one nearest to 20."""
        return min(self.settings.evaluate.ks, key=lambda value: abs(value - 20))

    def _lists(self, table: str, version: int | None = None) -> DataFrame:
        """Return user_id, recommended (item indices, best first) and explored (1 where a place is), by user."""
        rows = self.store.read(self.spark, table, self.reads[table] if version is None else version)
        explored = F.coalesce("explored", F.lit(False)) if "explored" in rows.columns else F.lit(False)
        place = F.struct("rank", "item_index", explored.cast("int").alias("explored"))
        ranked = rows.join(self.index, "item_id").groupBy("user_id").agg(F.sort_array(F.collect_list(place)).alias("_"))
        return ranked.select(
            "user_id", F.col("_.item_index").alias("recommended"), F.col("_.explored").alias("explored")
        )


def _padded(lists: pd.Series, width: int) -> np.ndarray:
    """Return lists as int64 [U, width], PAD behind their end; a missing list is empty."""
    padded = np.full((len(lists), width), PAD, np.int64)
    for row, items in enumerate(lists):
        if items is not None:
            padded[row, : len(items)] = items
    return padded


def _candidates(candidates_N: np.ndarray, seen: pd.Series, relevant: pd.Series) -> np.ndarray:
    """Count what could have been listed for each user; what is relevant counts though it was seen too."""
    hidden = [
        np.setdiff1d(np.asarray(mine, np.int64), np.asarray(wanted, np.int64))
        for mine, wanted in zip(seen, relevant, strict=True)
    ]
    return np.array([int(candidates_N.sum() - candidates_N[items].sum()) for items in hidden], np.int64)
