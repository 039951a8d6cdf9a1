"""Writes a Spark frame as a Petastorm dataset whose row groups hold a fixed number of rows.

parquet-mr 1.13 cuts row groups by bytes only, so each row group gets a file of its own.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

from petastorm.etl.dataset_metadata import materialize_dataset
from petastorm.unischema import Unischema
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from crossweave.feeding.datasets import TensorFile, describe_file, part_files
from crossweave.storage.location import Location
from crossweave.storage.records import Place
from crossweave.tables.paths import spark_path

ROW_GROUP_MB = 1024  # never reached: files are cut by their rows


def write_dataset(
    spark: SparkSession,
    frame: DataFrame,
    schema: Unischema,
    folder: Place,
    position: str,
    group_rows: int,
    groups: int,
) -> None:
    """Write `frame` into a folder that does not exist yet.

    `position` names a column that counts the rows from 0: rows of one `position // group_rows` share a row group,
    in that order. Every row group but the last is full.
    """
    columns = [field.name for field in schema.fields.values()]
    grouped = frame.withColumn("_group", F.floor(F.col(position) / group_rows).cast("int"))
    parted = grouped.repartition(min(groups, 512), "_group").sortWithinPartitions("_group", position)
    folder = Location.of(folder)
    files = None if folder.is_local else functools.partial(_files, folder)
    with materialize_dataset(spark, folder.url, schema, ROW_GROUP_MB, filesystem_factory=files):
        (
            parted.select(*columns)
            .write.option("maxRecordsPerFile", group_rows)
            .option("compression", "none")  # vectors do not compress, and readers are CPU-bound
            .parquet(spark_path(folder))
        )


def even_groups(rows: int, most: int, ranks: int) -> tuple[int, int]:
    """Return how many rows, `most` at the most, and how many row groups: every rank then takes the same steps.

    As many row groups for every rank, of (nearly) the same size.
    """
    groups = ranks * -(-rows // (most * ranks))
    return -(-rows // groups), groups


def described_dataset(spark: SparkSession, folder: Location) -> tuple[TensorFile, ...]:
    """Describe the files of a dataset on the workers: each is read once, for its hash."""
    places = part_files(folder)
    return tuple(spark.sparkContext.parallelize(places, len(places)).map(describe_file).collect())


def _files(folder: Location) -> Any:
    """Return a store as Petastorm asks it for what Spark wrote, on the driver and on the workers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this door of pyarrow is an old one: Petastorm knows no other
        from pyarrow.filesystem import FileSystem

    class Files(FileSystem):
        """A store of fsspec's behind pyarrow's old interface."""

        pathsep = "/"
        files = folder.store.for_pyarrow

        def open(self, path: str, mode: str = "rb") -> Any:
            return self.files.open(path, mode)

        def exists(self, path: str) -> bool:
            return bool(self.files.exists(path))

        def isdir(self, path: str) -> bool:
            return bool(self.files.isdir(path))

        def isfile(self, path: str) -> bool:
            return bool(self.files.isfile(path))

        def rm(self, path: str, recursive: bool = False) -> None:
            self.files.rm(path, recursive=recursive)

        def _isfilestore(self) -> bool:
            return False

        def walk(self, path: str) -> Any:
            return iter(self.files.walk(path))

    return Files()
