"""How far a night moved from the one that is served: catalog, modality vectors, item vectors, scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from crossweave.config.evaluation import DriftSettings
from crossweave.errors import TableError
from crossweave.evaluation.drift import mean_shift, neighbour_overlap, stability_index
from crossweave.evaluation.report_content import DriftRow
from crossweave.runtime.made import Made
from crossweave.stages.evaluate.judging import Judging
from crossweave.tables.schema import FEATURE_TABLES
from crossweave.tables.served import Chain
from crossweave.tables.vectors import check_rows, from_arrow

NEIGHBOURS = 10
OF_ITEMS = ("added", "removed", "changed")
LEAST_ITEMS = 3  # below, an item has no neighbour to lose


def drift_rows(judging: Judging, before: Chain | None, now: Chain) -> tuple[list[DriftRow], str]:
    """Compare tonight's chain with another one; returns the figures, or none and why, where that is known.

    Looks at no more than `evaluate.drift.sample` items and as many users, drawn by the seed; counts of the catalog are
    of all items.
    """
    settings = judging.settings.evaluate.drift
    if settings is None or before is None:
        return [], ""
    try:
        return _Drift(judging, settings, before, now).rows(), ""
    except (TableError, FileNotFoundError) as error:
        return [], f"what the run before left cannot be read any more: {str(error).splitlines()[0]}"


def warnings_of(rows: list[DriftRow]) -> list[str]:
    """Say which figures have passed their limit."""
    return [
        f"drift: {row.what} is {row.value:.3f}, {'below' if row.falls else 'above'} evaluate.drift.{row.setting}"
        f" {row.limit:g}"
        for row in rows
        if row.warns
    ]


def of_the_data(rows: list[DriftRow], before: Chain | None, now: Chain) -> list[DriftRow]:
    """Return what the data alone can have moved: where an encoder is another one, only what came, went and changed."""
    if before is None:
        return rows
    tables = [{name: table for name, (table, _) in _feature_tables(chain).items()} for chain in (before, now)]
    same = all(tables[1].get(name, table) == table for name, table in tables[0].items())
    return rows if same else [row for row in rows if row.setting in OF_ITEMS]


class _Drift:
    def __init__(self, judging: Judging, settings: DriftSettings, before: Chain, now: Chain) -> None:
        self.judging, self.settings, self.chains = judging, settings, (before, now)
        self.seed = judging.settings.seed

    def rows(self) -> list[DriftRow]:
        limits = self.settings
        found = self._items() + self._vectors()
        found.append(DriftRow("scores", "stability index of the scores", self._scores(), "scores", limits.scores))
        return found

    def _items(self) -> list[DriftRow]:
        """What came, went and changed, and how far the vectors of each modality moved."""
        limits = self.settings
        tables = [_feature_tables(chain) for chain in self.chains]
        names = sorted(tables[0].keys() & tables[1].keys())
        both = self._catalog(0, names).join(self._catalog(1, names), "item_id", "full_outer").cache()
        there = [F.col(f"has_{side}").isNotNull() for side in (0, 1)]
        differs = {name: ~F.col(f"{name}_0").eqNullSafe(F.col(f"{name}_1")) for name in names}
        anything: Column = F.lit(False)
        for one in differs.values():
            anything = anything | one
        count = lambda rule: F.coalesce(F.sum(rule.cast("long")), F.lit(0))  # noqa: E731
        size, added, removed, changed = both.agg(
            count(there[0]),
            count(there[1] & ~there[0]),
            count(there[0] & ~there[1]),
            count(there[0] & there[1] & anything),
        ).first() or (0, 0, 0, 0)
        size = max(1, size)
        rows = [
            DriftRow("items added", "share of items added", added / size, "added", limits.added),
            DriftRow("items removed", "share of items removed", removed / size, "removed", limits.removed),
            DriftRow("items changed", "share of items changed", changed / size, "changed", limits.changed),
        ]
        sample = self._sampled(both.where(there[0] & there[1]), "item_id").toPandas()
        both.unpersist()
        for name in names:
            known = sample[[f"{name}_0", f"{name}_1"]].dropna().to_numpy(str)
            shift = self._shift(known, tables[0][name], tables[1][name])
            rows.append(
                DriftRow(f"vectors of {name}", f"shift of the vectors of {name}", shift, "features", limits.features)
            )
        return rows

    def _catalog(self, side: int, names: list[str]) -> DataFrame:
        version = self.chains[side].ingest.writes["catalog"]
        rows = self.judging.store.read(self.judging.spark, "catalog", version).where("status = 'active'")
        contents = [F.try_element_at("hashes", F.lit(n))["content"].alias(f"{n}_{side}") for n in names]
        return rows.select("item_id", F.lit(True).alias(f"has_{side}"), *contents)

    def _shift(self, content_N2: np.ndarray, before: tuple[str, int], now: tuple[str, int]) -> float:
        """Return the mean shift of items with these contents; what did not change is not read."""
        same_N = (content_N2[:, 0] == content_N2[:, 1]) & (before[0] == now[0])
        if same_N.all():
            return 0.0
        sides = [self._read(*table, content_N2[~same_N, side]) for side, table in enumerate((before, now))]
        pairs = [
            (sides[0][old], sides[1][new])
            for old, new in content_N2[~same_N]
            if old in sides[0] and new in sides[1]  # else its encoder failed on it
        ]
        if not pairs:
            return 0.0
        moved = mean_shift(*(np.stack([pair[side] for pair in pairs]) for side in (0, 1)))
        return moved * len(pairs) / (len(pairs) + int(same_N.sum()))

    def _read(self, table: str, version: int, contents: np.ndarray) -> dict[str, np.ndarray]:
        wanted = pc.field("content_hash").isin(sorted(set(contents.tolist())))
        rows = self.judging.store.required(table, version).rows_where(wanted, ["content_hash", "vector", "check"])
        if not rows.num_rows:
            return {}
        dim = len(rows.column("vector")[0].as_py()) // 2
        vectors, keys = from_arrow(rows.column("vector"), dim), rows.column("content_hash").to_pylist()
        check_rows(keys, vectors, rows.column("check"), table)
        return dict(zip(keys, vectors, strict=True))

    def _vectors(self) -> list[DriftRow]:
        """Which share of an item's nearest items stayed: two trainings differ by a rotation that means nothing."""
        scored = [Made(self.judging.workspace, chain).vectors for chain in self.chains]
        ids = [vectors.item_ids for vectors in scored]
        place_N = pc.index_in(ids[1], value_set=ids[0])  # of tonight's items among those of before
        common = np.flatnonzero(place_N.is_valid().to_numpy(zero_copy_only=False))
        chosen = np.sort(np.random.default_rng(self.seed).permutation(common)[: self.settings.sample])
        if len(chosen) < LEAST_ITEMS:
            return []
        rows = place_N.take(pa.array(chosen)).to_numpy(zero_copy_only=False).astype(np.int64), chosen
        # Less the mean: what all items share would make all of them neighbours.
        sides = [vectors.target_NE[some] - vectors.center_E for vectors, some in zip(scored, rows, strict=True)]
        overlap = neighbour_overlap(sides[0], sides[1], NEIGHBOURS)
        return [
            DriftRow(
                "item vectors",
                f"share of the {NEIGHBOURS} nearest items that stayed",
                overlap,
                "neighbours",
                self.settings.neighbours,
                falls=True,
            )
        ]

    def _scores(self) -> float:
        """Return the stability index of the scores in the lists of the same users, down to the headline's K."""
        judging = self.judging
        lists = [
            judging.store.read(judging.spark, "recommendations", chain.score.writes["recommendations"])
            .where(F.col("rank") <= judging.headline_k)
            .select("user_id", "score")
            for chain in self.chains
        ]
        users = lists[0].select("user_id").intersect(lists[1].select("user_id"))
        users = self._sampled(users, "user_id").cache()
        scores = [side.join(users, "user_id").select("score").toPandas()["score"].to_numpy() for side in lists]
        users.unpersist()
        return stability_index(*scores) if len(scores[0]) and len(scores[1]) else 0.0

    def _sampled(self, rows: DataFrame, entity: str) -> DataFrame:
        return rows.orderBy(F.xxhash64(F.lit(self.seed), entity), entity).limit(self.settings.sample)


def _feature_tables(chain: Chain) -> Mapping[str, tuple[str, int]]:
    """Return modality -> its feature table and version."""
    return {
        table.removeprefix(FEATURE_TABLES).rpartition("-")[0]: (table, version)
        for table, version in chain.tensors.reads.items()
        if table.startswith(FEATURE_TABLES)
    }
