"""Item factors by Spark ML's ALS, out of Spark into an array."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession
from scipy.sparse import csr_matrix

from crossweave.storage.location import Location
from crossweave.tables.paths import spark_path

CHECKPOINT_EVERY = 5  # iterations


def spark_als(
    spark: SparkSession,
    scratch: Location,
    seen_UN: csr_matrix,
    rank: int,
    alpha: float,
    l2: float,
    iterations: int,
    seed: int,
) -> np.ndarray:
    """Factorise who took what on the Spark workers; returns item factors float32 [N, rank], zero where nobody took one.

    The blocks of users and items follow the session's parallelism; the factors are gathered in this process. `scratch`
    is a folder of its own that every worker sees; it is removed.
    """
    # Each iteration adds to the lineage of the next; uncut, some twenty of them overflow the JVM's stack.
    spark.sparkContext.setCheckpointDir(spark_path(scratch))
    pairs = seen_UN.tocoo()
    rows = spark.createDataFrame(pd.DataFrame({"user": pairs.row, "item": pairs.col}).astype("int32"))
    blocks = max(2, spark.sparkContext.defaultParallelism)
    estimator = ALS(
        rank=rank,
        maxIter=iterations,
        regParam=l2,
        alpha=alpha,
        implicitPrefs=True,
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        userCol="user",
        itemCol="item",
        ratingCol="taken",
        checkpointInterval=CHECKPOINT_EVERY,
        seed=seed,
    )
    try:
        factors = estimator.fit(rows.selectExpr("user", "item", "cast(1 as float) as taken")).itemFactors.toPandas()
    finally:
        scratch.remove()
    item_NF = np.zeros((seen_UN.shape[1], rank), np.float32)
    if len(factors):
        item_NF[factors["id"].to_numpy()] = np.stack(list(factors["features"]))
    return item_NF
