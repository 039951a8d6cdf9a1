"""Nearest items by Spark's workers, against all inner products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from crossweave.errors import ReconciliationError
from crossweave.feeding.neighbours import spark_neighbours
from crossweave.scoring.neighbours import nearest_items
from crossweave.storage.location import Location


def test_workers_find_the_nearest_items_of_all_items(spark: SparkSession, tmp_path: Path) -> None:
    item_ND = np.random.default_rng(2).standard_normal((101, 8)).astype(np.float32)
    items, scores = spark_neighbours(spark, Location.of(tmp_path / "graph"), nearest_items, item_ND, 5)
    inner = item_ND @ item_ND.T
    np.fill_diagonal(inner, -np.inf)
    np.testing.assert_array_equal(items, np.argsort(-inner, axis=1)[:, :5])
    np.testing.assert_allclose(scores, -np.sort(-inner, axis=1)[:, :5], rtol=1e-5)
    assert not (tmp_path / "graph").exists()


def test_a_catalog_smaller_than_k_is_padded_and_an_empty_one_has_no_neighbours(
    spark: SparkSession, tmp_path: Path
) -> None:
    two = np.eye(2, dtype=np.float32)
    items, scores = spark_neighbours(spark, Location.of(tmp_path / "graph"), nearest_items, two, 3)
    assert items.tolist() == [[1, -1, -1], [0, -1, -1]]
    assert scores[:, 0].tolist() == [0.0, 0.0]
    items, scores = spark_neighbours(spark, Location.of(tmp_path / "graph"), nearest_items, two[:0], 3)
    assert items.shape == scores.shape == (0, 3)


def test_an_answer_for_fewer_items_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    def forgetful(item_ND: np.ndarray, start: int, stop: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        items, scores = nearest_items(item_ND, start, stop, k)
        return items[:-1], scores[:-1]

    with pytest.raises(ReconciliationError, match="neighbours of"):
        spark_neighbours(spark, Location.of(tmp_path / "graph"), forgetful, np.eye(9, dtype=np.float32), 2)
