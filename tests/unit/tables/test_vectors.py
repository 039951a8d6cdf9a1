"""Vectors at rest: what float16 can hold comes back bit for bit, also from slices, and other lengths are refused."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from crossweave.errors import TableError
from crossweave.runtime.faults import translate
from crossweave.tables.feature_writer import FeatureWriter
from crossweave.tables.schema import spark_schema
from crossweave.tables.vectors import check_rows, from_arrow, to_arrow, unharmed

VECTORS_43 = np.array([[0, 1, -2], [0.5, 0.25, -0.125], [1024, 2048, 65504], [6e-8, -0.0, 3]], np.float32)


def test_bytes_are_little_endian_float16() -> None:
    assert to_arrow(np.array([[1.0, -2.0]], np.float32)).to_pylist() == [b"\x00\x3c\x00\xc0"]


def test_values_that_float16_holds_come_back_equal() -> None:
    packed = to_arrow(VECTORS_43)
    assert packed.type == pa.binary(6)
    back = from_arrow(packed, 3)
    assert (back.dtype, back.shape) == (np.float16, (4, 3))
    np.testing.assert_array_equal(back, VECTORS_43.astype(np.float16))


def test_other_values_are_rounded_to_the_nearest() -> None:
    values = np.array([[0.1, 1 / 3, 1000.3]], np.float32)
    np.testing.assert_allclose(from_arrow(to_arrow(values), 3), values, rtol=2**-11)


@pytest.mark.parametrize("wild", [65536.0, -1e6, np.inf, -np.inf, np.nan])
def test_values_that_float16_cannot_hold_are_refused_not_stored_as_infinity(wild: float) -> None:
    with pytest.raises(ValueError, match="not finite or beyond ±65504"):
        to_arrow(np.array([[1.0, 2.0], [wild, 3.0]], np.float32))
    assert from_arrow(to_arrow(np.array([[65504.0, -65504.0]], np.float32)), 2).tolist() == [[65504.0, -65504.0]]


def test_arrays_that_are_not_contiguous_are_packed_by_value() -> None:
    np.testing.assert_array_equal(from_arrow(to_arrow(VECTORS_43.T), 4), VECTORS_43.T.astype(np.float16))
    np.testing.assert_array_equal(from_arrow(to_arrow(VECTORS_43[::2]), 3), VECTORS_43[::2].astype(np.float16))


@pytest.mark.parametrize("kind", [pa.binary(6), pa.binary(), pa.large_binary()], ids=str)
@pytest.mark.parametrize(("offset", "length"), [(0, 4), (1, 2), (3, 1), (2, 0), (4, 0)])
def test_slices_give_their_own_rows_in_every_binary_type(kind: pa.DataType, offset: int, length: int) -> None:
    column = pa.array(to_arrow(VECTORS_43).to_pylist(), kind).slice(offset, length)
    expected = VECTORS_43[offset : offset + length].astype(np.float16)
    np.testing.assert_array_equal(from_arrow(column, 3), expected)
    assert from_arrow(column, 3).shape == (length, 3)


@pytest.mark.parametrize("kind", [pa.binary(6), pa.binary()], ids=str)
def test_chunks_are_joined_in_their_order(kind: pa.DataType) -> None:
    values = to_arrow(VECTORS_43).to_pylist()
    column = pa.chunked_array([pa.array(values[:1], kind), pa.array([], kind), pa.array(values[1:], kind)])
    np.testing.assert_array_equal(from_arrow(column, 3), VECTORS_43.astype(np.float16))


def test_no_vectors_at_all_keep_their_dim(tmp_path) -> None:
    assert from_arrow(to_arrow(np.zeros((0, 3), np.float32)), 3).shape == (0, 3)
    assert from_arrow(pa.array([], pa.binary()), 3).shape == (0, 3)
    assert from_arrow(pa.chunked_array([], pa.binary()), 3).shape == (0, 3)


@pytest.mark.parametrize("kind", [pa.binary(6), pa.binary(), pa.large_binary()], ids=str)
def test_vectors_of_another_length_are_refused_with_both_lengths(kind: pa.DataType) -> None:
    column = pa.array(to_arrow(VECTORS_43).to_pylist(), kind)
    with pytest.raises(TableError, match="a vector has 6 bytes instead of 8"):
        from_arrow(column, 4)


def test_one_ragged_vector_among_good_ones_is_refused_although_the_bytes_add_up() -> None:
    column = pa.array([b"12345678", b"1234", b"123456"], pa.binary())  # 18 bytes: three times 6
    with pytest.raises(TableError, match="a vector has 8 bytes instead of 6"):
        from_arrow(column, 3)
    good = pa.array([b"x", b"123456", b"123456", b"y"], pa.binary())
    assert from_arrow(good.slice(1, 2), 3).shape == (2, 3)  # the ragged ones lie outside the slice


def test_a_parquet_file_gives_the_same_vectors_back(tmp_path) -> None:
    path = tmp_path / "vectors.parquet"
    pq.write_table(pa.table({"vector": to_arrow(VECTORS_43)}), path, row_group_size=3)
    np.testing.assert_array_equal(from_arrow(pq.read_table(path)["vector"], 3), VECTORS_43.astype(np.float16))


def test_a_row_that_is_not_as_a_worker_wrote_it_ends_every_reading_of_it_by_name(spark: SparkSession, tmp_path) -> None:
    writer = FeatureWriter(tmp_path, 3, datetime.date(2026, 1, 2))
    writer.vectors(["aa", "bb", "ü", "dd"], VECTORS_43)
    writer.close()
    (file,) = (tmp_path / "vectors").iterdir()
    raw, before = bytearray(file.read_bytes()), VECTORS_43[1].astype(np.float16).tobytes()

    def vectors() -> list[bytes]:
        features = spark.read.schema(spark_schema("features/x")).parquet(str(file))
        return [bytes(row[0]) for row in features.select(unharmed(features, "features/x")).collect()]

    def checked() -> None:
        rows = pq.read_table(file)
        check_rows(rows["content_hash"].to_pylist(), from_arrow(rows["vector"], 3), rows["check"], "features/x")

    assert vectors() == to_arrow(VECTORS_43).to_pylist()
    checked()
    raw[raw.index(before)] ^= 1
    file.write_bytes(raw)
    with pytest.raises(Exception) as caught:
        vectors()
    found = translate(caught.value)
    assert isinstance(found, TableError)
    assert "table features/x holds another vector of the content bb than was written" in str(found)
    with pytest.raises(TableError, match="the content bb"):
        checked()


def test_a_row_from_before_vectors_had_checks_is_taken_as_it_is(spark: SparkSession) -> None:
    old = spark.createDataFrame([("aa", b"1234", None, None)], spark_schema("features/x"))
    assert [bytes(row[0]) for row in old.select(unharmed(old, "features/x")).collect()] == [b"1234"]
