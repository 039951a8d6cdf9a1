"""Item vectors as a faiss index, and the vectors of all users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyspark.sql import DataFrame

from crossweave.alignment.histories import Histories
from crossweave.alignment.user_parts import UNKNOWN, UserBatch
from crossweave.artifacts.model import TrainedModel
from crossweave.artifacts.scored import ScoredVectors
from crossweave.errors import SettingsError
from crossweave.scoring.users import read_users
from crossweave.stages.export.source import ARROW_TYPES, Source
from crossweave.storage.location import Location
from crossweave.tables.paths import read_parquet, spark_path
from crossweave.tables.scored_users import UserTables, user_rows
from crossweave.tables.vectors import as_lists, lists_of

USERS_AT_ONCE = 1024


def index(source: Source, folder: Path) -> tuple[int, int]:
    """Write index.faiss (inner product) and ids.parquet (the id of each of its rows).

    A row is an item's vector with its bias behind: a query is a user's vector with a 1 behind.
    """
    try:
        import faiss
    except ImportError as error:
        raise SettingsError("export.format=faiss needs the package faiss-cpu", "pip install faiss-cpu") from error
    rows_NE = np.column_stack([source.vectors.target_NE, source.vectors.bias_N]).astype(np.float32)
    made = faiss.IndexFlatIP(rows_NE.shape[1])
    made.add(rows_NE)
    faiss.write_index(made, str(folder / "index.faiss"))
    pq.write_table(pa.table({"item_id": source.item_ids}), folder / "ids.parquet")
    return len(rows_NE), faiss.read_index(str(folder / "index.faiss")).ntotal


def users(source: Source, folder: Location) -> tuple[int, int]:
    """Write user_id and vector (float32) of every user of the users and interactions tables."""
    folders, kind = (source.model.folder, source.vectors.folder), ARROW_TYPES[source.types["user"]]
    attributes = len(source.manifest.attributes)

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model, scored = TrainedModel.open(folders[0]).load(), ScoredVectors.open(folders[1])
        history_ND = torch.from_numpy(scored.history_ND)
        for batch in batches:
            for start in range(0, batch.num_rows, USERS_AT_ONCE):
                some = batch.slice(start, USERS_AT_ONCE)
                codes = some.column("attributes").flatten().to_numpy(zero_copy_only=False)
                who = UserBatch.from_arrays(
                    some.column("user_index").to_numpy(), codes.reshape(some.num_rows, attributes)
                )
                histories = Histories.from_lists(lists_of(some.column("history")))
                vectors_BE = read_users(model, history_ND, histories, who).vector_BE.numpy()
                columns = [some.column("user_id").cast(kind), as_lists(vectors_BE)]
                yield pa.RecordBatch.from_arrays(columns, ["user_id", "vector"])

    rows = _rows(source)
    typed = "bigint" if kind == pa.int64() else "string"
    made = rows.select("user_id", "history", "user_index", "attributes").mapInArrow(
        work, f"user_id {typed}, vector array<float>"
    )
    made.write.mode("append").parquet(spark_path(folder))
    return rows.count(), read_parquet(source.context.spark, [folder]).count()


def _rows(source: Source) -> DataFrame:
    spark, settings = source.context.spark, source.context.settings
    read = lambda name: source.store.read(spark, name, source.scored.reads[name])  # noqa: E731
    return user_rows(
        UserTables.of(read, source.tensors.details.protocol, blocks=False),
        read("item_index"),
        read("user_index"),
        history=settings.score.history_splits,
        seen=[],
        vocabulary=source.manifest.attributes,
        segments={},
        attributes=[],
        unknown=UNKNOWN,
    )
