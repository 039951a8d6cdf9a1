"""Item factors by Spark ML, against the same equations solved row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pyspark.sql import SparkSession
from scipy.sparse import csr_matrix

from crossweave.alignment.collaborative.als import Als
from crossweave.alignment.histories import Histories
from crossweave.feeding.factors import spark_als
from crossweave.storage.location import Location

ALPHA, L2 = 4.0, 0.05


def taken() -> csr_matrix:
    """Three tastes of ten items each; the last item nobody took."""
    rng = np.random.default_rng(3)
    same = np.arange(60)[:, None] % 3 == np.arange(31) % 3
    chosen = same & (rng.random((60, 31)) < 0.8)
    chosen[:, -1] = False
    return csr_matrix(chosen.astype(np.float32))


def test_spark_s_factors_satisfy_the_equations_that_a_user_is_solved_by(spark: SparkSession, tmp_path: Path) -> None:
    """At convergence an item is the half-step over its users, as a user is over its items."""
    seen = taken()
    item_NF = spark_als(spark, Location.of(tmp_path / "als"), seen, rank=4, alpha=ALPHA, l2=L2, iterations=25, seed=1)
    assert item_NF.shape == (31, 4)
    assert not item_NF[-1].any()
    dense = seen.toarray().astype(np.float64)
    user = half_step(dense, item_NF)
    again = half_step(dense.T, user)
    np.testing.assert_allclose(again @ user.T, item_NF @ user.T, atol=0.02)


def test_als_on_spark_s_factors_ranks_a_user_s_own_taste_first(spark: SparkSession, tmp_path: Path) -> None:
    def factorise(seen: csr_matrix, **settings: float) -> np.ndarray:
        return spark_als(spark, Location.of(tmp_path / "als"), seen, **settings)  # type: ignore[arg-type]

    model = Als.fit(taken(), factorise, rank=3, l2=L2, iterations=5)
    scores = model.blocks(Histories.from_lists([np.array([0, 3, 6])]))(0, 31).numpy()[0]
    own = np.arange(30) % 3 == 0
    assert scores[:30][own].min() > scores[:30][~own].max()


def half_step(rows: np.ndarray, other: np.ndarray) -> np.ndarray:
    solved = []
    for row in rows:
        weights = 1.0 + ALPHA * row
        system = other.T @ (weights[:, None] * other) + (L2 * row.sum() + 1e-9) * np.eye(other.shape[1])
        solved.append(np.linalg.solve(system, other.T @ (weights * row)))
    return np.array(solved)
