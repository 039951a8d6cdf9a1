"""Reads Petastorm datasets row group by row group, by a list of files, and counts every row.

By file list only: Petastorm unpickles what it finds in a dataset folder's `_common_metadata`. Never with its
thread pool: that one can end a read early without an error; here every read is counted against the manifest.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

from petastorm import make_batch_reader

from crossweave.errors import ReconciliationError
from crossweave.feeding.datasets import Datasets
from crossweave.storage.location import Location

RowGroup = dict[str, Any]
"""Column name -> numpy array; bytes columns are object arrays of bytes."""


def read_row_groups(
    datasets: Datasets, dataset: str, shard: int = 0, shards: int = 1, shuffle_seed: int | None = None
) -> Iterator[RowGroup]:
    """Yield the row groups of one shard of a dataset once, in a seeded order if asked.

    Raises ReconciliationError where other rows came than the manifest promises.
    """
    # One row group a file, so a shard is a list of files. Petastorm's own sharding refuses every shard where there are
    # fewer row groups than shards.
    expected = datasets.rows(dataset, shard, shards)
    if expected == 0:
        return
    urls = [Location("file", "", str(path)).url for path in datasets.verified(dataset, shard, shards)]
    rows = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Petastorm reads through pyarrow's legacy dataset API
        reader = make_batch_reader(
            urls,
            reader_pool_type="dummy",
            num_epochs=1,
            shuffle_row_groups=shuffle_seed is not None,
            seed=None if shuffle_seed is None else shuffle_seed + 1,  # Petastorm takes 0 for no seed
        )
        try:
            for group in reader:
                columns = group._asdict()
                rows += len(next(iter(columns.values())))
                yield columns
        finally:
            with contextlib.redirect_stdout(io.StringIO()):  # Petastorm prints on closing
                reader.stop()
                reader.join()
    if rows != expected:
        raise ReconciliationError(
            f"shard {shard} of {shards} of the {dataset} tensors gave {rows} rows, the manifest promises {expected}",
            f"{datasets.remedy}; if it stays, please report it",
        )
