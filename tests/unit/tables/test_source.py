"""Tables as others write them: any type, name and path is read with its right values, or refused by name."""

from __future__ import annotations

import base64
import datetime
import decimal
import os
import string
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from crossweave.errors import InputContractError, SettingsError
from crossweave.tables.contract import ANY, BYTES, ID, NUMBER, TAGS, TEXT, VECTOR, ColumnType
from crossweave.tables.paths import PATTERN, inner_name
from crossweave.tables.source import FILE, ROW, check_source, read_source
from crossweave.tables.values import as_strings

NAMES = "[1] {x} 50%20 ü#?+;* \\ &=é😀"
"""Letters that globs, URIs and Hadoop take for something; all of them may stand in a folder's name."""
MOMENT = datetime.datetime(2024, 5, 6, 7, 8, 9, 123456)


def write(path: Path, columns: dict[str, Any] | pa.Table, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **how)
    return path


def read(
    spark: SparkSession, path: Path, columns: dict[str, ColumnType], derived: dict[str, str] | None = None
) -> dict[str, list[Any]]:
    """Read a table's columns as Python values, in the order of files and rows."""
    source = check_source(lambda: spark, "items", str(path), columns, derived or {})
    rows = read_source(spark, source).orderBy(FILE, ROW).collect()
    return {name: [row[inner_name(name)] for row in rows] for name in columns}


def texts(spark: SparkSession, path: Path, names: list[str]) -> list[dict[str, str]]:
    """Read columns as the catalog keeps them."""
    source = check_source(lambda: spark, "items", str(path), dict.fromkeys(names, ANY), {})
    rows = read_source(spark, source)
    return [dict(row[0]) for row in rows.orderBy(FILE, ROW).select(as_strings(rows, names)).collect()]


def refusal(path: Path, columns: dict[str, ColumnType]) -> InputContractError:
    with pytest.raises(InputContractError) as caught:
        check_source(lambda: None, "items", str(path), columns, {})
    assert caught.value.exit_code == 3
    assert caught.value.hint
    return caught.value


# Types ---------

SCALARS: list[tuple[pa.DataType, Any, str]] = [
    (pa.int8(), -7, "-7"),
    (pa.uint8(), 200, "200"),
    (pa.uint16(), 65_535, "65535"),
    (pa.uint32(), 4_294_967_295, "4294967295"),
    (pa.uint64(), 2**64 - 1, "18446744073709551615"),
    (pa.int64(), -(2**63), str(-(2**63))),
    (pa.float32(), 0.1, "0.1"),
    (pa.float64(), 0.1, "0.1"),
    (pa.bool_(), True, "true"),
    (pa.string(), "ü", "ü"),
    (pa.large_string(), "long", "long"),
    (pa.dictionary(pa.int8(), pa.string()), "Acme", "Acme"),
    (pa.decimal128(5, 2), decimal.Decimal("1.25"), "1.25"),
    (pa.decimal128(15, 0), decimal.Decimal("123456789012345"), "123456789012345"),
    (pa.decimal128(38, 10), decimal.Decimal("-3.5"), "-3.5000000000"),
    (pa.date32(), datetime.date(1, 1, 1), "0001-01-01"),
    (pa.date64(), datetime.date(2024, 5, 6), "2024-05-06"),
    (pa.timestamp("ns"), 1_714_979_289_123_456_789, "2024-05-06 07:08:09.123456"),
    (pa.timestamp("ns"), -1, "1969-12-31 23:59:59.999999"),  # cut down, not towards zero
    (pa.timestamp("us"), MOMENT, "2024-05-06 07:08:09.123456"),
    (pa.timestamp("us", "Europe/Berlin"), MOMENT, "2024-05-06 07:08:09.123456"),
    (pa.timestamp("ms"), 1_714_979_289_123, "2024-05-06 07:08:09.123"),
    (pa.timestamp("s"), 0, "1970-01-01 00:00:00"),
    (pa.timestamp("us"), datetime.datetime(1, 1, 1), "0001-01-01 00:00:00"),
    (pa.timestamp("ms"), 2**63 - 1, "+294247-01-10 04:00:54.774"),  # "for ever": held at the last time there is
    (pa.time32("ms"), datetime.time(7, 8, 9, 5000), "07:08:09.005"),
    (pa.time64("us"), datetime.time(7, 8, 9, 5), "07:08:09.000005"),
    (pa.time64("ns"), 3_600_000_000_999, "01:00:00"),
    (pa.duration("us"), 5, "5"),
    (pa.list_(pa.timestamp("ns")), [0, None], '["1970-01-01T00:00:00.000Z",null]'),
    (pa.struct([("at", pa.time64("ns")), ("n", pa.int32())]), {"at": 0, "n": 1}, '{"at":"00:00:00","n":1}'),
    (pa.map_(pa.string(), pa.time64("us")), [("k", datetime.time(1))], '{"k":"01:00:00"}'),
    (pa.list_(pa.list_(pa.int32())), [[1], []], "[[1],[]]"),
]  # fmt: skip
"""A type, a value of it, and the text that an attribute of it has."""


def test_every_scalar_and_nested_type_is_read_with_its_value(spark: SparkSession, tmp_path: Path):
    columns = {f"c{n}": pa.array([value, None], kind) for n, (kind, value, _) in enumerate(SCALARS)}
    path = write(tmp_path / "items.parquet", columns)
    full, empty = texts(spark, path, list(columns))
    assert full == {f"c{n}": text for n, (_, _, text) in enumerate(SCALARS)}
    assert empty == {}


@pytest.mark.parametrize("how", [{"use_deprecated_int96_timestamps": True}, {"coerce_timestamps": "ms"}])
def test_times_are_read_however_a_writer_keeps_them_and_however_old_they_are(spark, tmp_path: Path, how):
    times = [datetime.datetime(1, 1, 1), datetime.datetime(1811, 2, 3), datetime.datetime(2300, 1, 1)]
    path = write(tmp_path / "a.parquet", {"at": pa.array(times, pa.timestamp("us"))}, **how)
    assert [row["at"] for row in texts(spark, path, ["at"])] == [
        f"{t:%Y}".zfill(4) + f"{t:-%m-%d %H:%M:%S}" for t in times
    ]


def test_columns_that_nobody_names_may_be_anything(spark: SparkSession, tmp_path: Path):
    odd = {
        "nanos": pa.array([1, 2], pa.timestamp("ns")),
        "time": pa.array([1, 2], pa.time64("ns")),
        "nothing": pa.nulls(2),
        "huge": pa.array([decimal.Decimal(1)] * 2, pa.decimal256(60, 2)),
        "_metadata": ["m", "m"],
        "_tmp_metadata_row_index": [5, 5],
        "ID": ["other", "case"],
    }
    path = write(tmp_path / "a.parquet", {"id": [1, 2]} | odd)
    assert read(spark, path, {"id": ID}) == {"id": [1, 2]}
    assert "decimal(60, 2), which Spark cannot read" in refusal(path, {"huge": ANY}).message
    assert "Spark keeps for itself" in refusal(path, {"_tmp_metadata_row_index": ANY}).message


def test_lists_are_read_whatever_their_elements_are_called(spark: SparkSession, tmp_path: Path):
    numbers = np.arange(4, dtype=np.float32)
    table = {
        "fixed": pa.FixedSizeListArray.from_arrays(pa.array(numbers), 2),
        "large": pa.array([["a", None], []], pa.large_list(pa.large_string())),
        "named": pa.array([["a"], None], pa.list_(pa.field("weird.name", pa.string()))),
    }
    wanted = {"fixed": VECTOR, "large": TAGS, "named": TAGS}
    right = {"fixed": [[0.0, 1.0], [2.0, 3.0]], "large": [["a", None], []], "named": [["a"], None]}
    assert read(spark, write(tmp_path / "new.parquet", table), wanted) == right
    assert read(spark, write(tmp_path / "old.parquet", table, use_compliant_nested_type=False), wanted) == right
    spark.conf.set("spark.sql.parquet.writeLegacyFormat", "true")
    try:
        rows = spark.range(1).select(
            F.array(F.lit("a")).alias("two"), F.array(F.lit(None).cast("string")).alias("three")
        )
        rows.write.parquet(str(tmp_path / "legacy"))
    finally:
        spark.conf.unset("spark.sql.parquet.writeLegacyFormat")
    assert read(spark, tmp_path / "legacy", {"two": TAGS, "three": TAGS}) == {"two": [["a"]], "three": [[None]]}


def test_a_field_of_a_struct_is_named_with_a_dot_and_one_named_whole_is_told_how(spark: SparkSession, tmp_path: Path):
    pictures = pa.array([{"bytes": b"1", "path": "p"}, None, {"bytes": None, "path": "q"}])
    path = write(tmp_path / "a.parquet", {"image": pictures, "meta.brand": ["x", "y", "z"]})
    found = read(spark, path, {"image.bytes": BYTES, "image.path": TEXT, "meta.brand": TEXT})
    assert found == {"image.bytes": [b"1", None, None], "image.path": ["p", None, "q"], "meta.brand": ["x", "y", "z"]}
    assert refusal(path, {"image": BYTES}).hint == "name a field of the struct: image.bytes"
    assert "lacks the column 'image.size'" in refusal(path, {"image.size": ANY}).message


def test_a_uuid_is_its_text(spark: SparkSession, tmp_path: Path):
    key = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
    path = write(tmp_path / "a.parquet", {"id": pa.array([key.bytes, None], pa.binary(16))})
    raw = path.read_bytes()
    # pyarrow writes no UUIDs yet: the logical type (field 10 of a column, a union with field 14) goes in by hand.
    length = int.from_bytes(raw[-8:-4], "little")
    footer = raw[-8 - length : -8].replace(b"\x18\x02id", b"\x18\x02id\x6c\xec\x00\x00", 1)
    path.write_bytes(raw[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    assert read(spark, path, {"id": ID}) == {"id": [str(key), None]}


# Parts that differ ---------


def test_parts_of_several_types_are_read_as_the_one_that_takes_them_all(spark: SparkSession, tmp_path: Path):
    parts = [
        {"id": pa.array([1], pa.int32()), "price": pa.array([2], pa.int64()), "at": pa.array([0], pa.timestamp("ns"))},
        {"price": pa.array([2.5]), "id": pa.array([2], pa.int64()), "at": pa.array([0], pa.timestamp("ms", "UTC"))},
        {"id": pa.array([3], pa.uint8()), "price": pa.nulls(1), "at": pa.array([datetime.date(1970, 1, 1)])},
        {"id": pa.array([], pa.int64()), "price": pa.array([], pa.float32()), "at": pa.nulls(0)},
    ]
    tags = [pa.nulls(1), pa.array([["a"]]), pa.array([[]], pa.list_(pa.null())), pa.nulls(0)]
    scale = [decimal.Decimal("1.5"), decimal.Decimal("0.125")]
    weights = [
        pa.array(scale[:1], pa.decimal128(5, 1)),
        pa.array(scale[1:], pa.decimal128(9, 3)),
        pa.array([7]),
        pa.nulls(0),
    ]
    for n, part in enumerate(parts):
        write(tmp_path / f"{n}.parquet", part | {"tags": tags[n], "weight": weights[n]})
    found = read(spark, tmp_path, {"id": ID, "price": ANY, "at": ANY, "tags": TAGS, "weight": NUMBER})
    assert found["id"] == [1, 2, 3]
    assert found["price"] == [2.0, 2.5, None]
    assert found["at"] == [datetime.datetime(1970, 1, 1)] * 3
    assert found["tags"] == [None, ["a"], []]
    assert found["weight"] == [*scale, 7]


def test_columns_without_any_value_have_the_type_that_is_wanted(spark: SparkSession, tmp_path: Path):
    write(tmp_path / "a.parquet", {"id": [1], "text": pa.nulls(1), "vector": pa.array([[]], pa.list_(pa.null()))})
    wanted = {"id": ID, "text": TEXT, "vector": VECTOR}
    assert read(spark, tmp_path, wanted) == {"id": [1], "text": [None], "vector": [[]]}
    assert read(spark, tmp_path, {"text": ID}) == {"text": [None]}  # nothing at all is read of the file
    source = check_source(lambda: spark, "items", str(tmp_path), wanted, {})
    assert read_source(spark, source).dtypes[:3] == [
        ("c_id", "bigint"), ("c_text", "string"), ("c_vector", "array<float>"),
    ]  # fmt: skip
    assert read_source(spark, source, []).dtypes == read_source(spark, source).dtypes


# Names ---------


def test_any_name_of_a_column_is_taken_to_the_letter(spark: SparkSession, tmp_path: Path):
    names = [
        "a.b",
        "a`b",
        "Größe (cm)",
        "1x",
        "",
        " blank ",
        "_metadata",
        "a\nb",
        "`",
        "select",
        "*",
        "file_path",
        "😀",
    ]
    names += ["_file", "_row", "_item", "_old", "_copy", "_change_x", "file", "row", "item_id", "content_hash", "c_id"]
    path = write(tmp_path / "a.parquet", pa.Table.from_arrays([pa.array([n]) for n in range(len(names))], names))
    assert texts(spark, path, names) == [{name: str(n) for n, name in enumerate(names)}]
    source = check_source(lambda: spark, "items", str(path), dict.fromkeys(names, ANY), {})
    assert read_source(spark, source).select(FILE, ROW).collect() == [("a.parquet", 0)]


def test_columns_that_differ_only_in_case_are_told_apart_and_refused_where_both_are_named(spark, tmp_path: Path):
    path = write(tmp_path / "a.parquet", {"name": ["small"], "Name": ["LARGE"], "title": ["t"]})
    assert read(spark, path, {"name": TEXT}) == {"name": ["small"]}
    assert read(spark, path, {"Name": TEXT}) == {"Name": ["LARGE"]}
    assert read(spark, path, {"made": TEXT}, {"made": "lower(Name) || title"}) == {"made": ["larget"]}
    message = refusal(path, {"name": TEXT, "Name": TEXT}).message
    assert str(path) in message and "'name' and 'Name'" in message


@pytest.mark.parametrize("value", [{"text": "small", "Text": "LARGE"}, {"deep": {"a": 1, "A": 2}, "text": "small"}])
def test_fields_that_differ_only_in_case_are_told_apart_too(spark: SparkSession, tmp_path: Path, value: dict):
    path = write(tmp_path / "a.parquet", {"pic": [value], "title": ["t"]})
    assert read(spark, path, {"pic.text": TEXT, "title": TEXT}) == {"pic.text": ["small"], "title": ["t"]}
    if "Text" in value:
        assert read(spark, path, {"pic.Text": TEXT, "pic.text": TEXT}) == {"pic.Text": ["LARGE"], "pic.text": ["small"]}


def test_a_derived_column_of_a_type_that_no_column_has_is_refused_by_its_setting(spark: SparkSession, tmp_path: Path):
    path = write(tmp_path / "a.parquet", {"n": [1]})
    for expression in ("make_interval(n)", "array(make_dt_interval(n))", "interval '1' month"):
        with pytest.raises(SettingsError, match=r"inputs\.items\.derived\.x is of type .*interval.*, which no column"):
            check_source(lambda: spark, "items", str(path), {}, {"x": expression})


def test_derived_columns_see_users_columns_by_their_names_and_ours_not_at_all(spark: SparkSession, tmp_path: Path):
    columns = {"a.b": [2], "_file": ["mine"], "c__file": ["yours"], "at": pa.array([10**9], pa.timestamp("ns"))}
    path = write(tmp_path / "a.parquet", columns | {"n": pa.nulls(1)})
    derived = {"x": "`a.b` * 2", "y": "_file || C__FILE", "z": "unix_seconds(at)", "w": "coalesce(n, 'none')"}
    found = read(spark, path, {"x": ID, "y": TEXT, "z": ANY, "w": ANY}, derived)
    assert found == {"x": [4], "y": ["mineyours"], "z": [1], "w": ["none"]}
    with pytest.raises(SettingsError, match="_row"):
        check_source(lambda: spark, "items", str(path), {}, {"x": "_row + 1"})


# Paths ---------


def test_any_letter_may_stand_in_a_path(spark: SparkSession, tmp_path: Path):
    root = tmp_path / NAMES / "new\nline"
    files = [
        f"{n} {name}.parquet" for n, name in enumerate(("a[b]", "{c,d}", "e*f?", "50%20+ü#\\", "g\nh", "i;j,k&='l'"))
    ]
    for n, name in enumerate(files):
        write(root / name, {"id": [n]})
    source = check_source(lambda: spark, "items", str(root), {"id": ID}, {})
    assert [tuple(row) for row in read_source(spark, source).orderBy("c_id").collect()] == [
        (n, name, 0) for n, name in enumerate(files)
    ]
    assert read(spark, root / files[0], {"id": ID}) == {"id": [0]}
    assert read(spark, write(tmp_path / "a: b" / "c.parquet", {"id": [7]}), {"id": ID}) == {"id": [7]}


def test_all_endings_of_parquet_are_read_and_what_is_none_is_named(spark: SparkSession, tmp_path: Path):
    for n, name in enumerate(("a.parquet", "b.pq", "c.PARQUET", "d.parq", "000000_0")):
        write(tmp_path / name, {"id": [n]})
    for name in ("notes.txt", "_SUCCESS", ".a.parquet.crc", "_items.parquet"):
        (tmp_path / name).write_text("x")
    source = check_source(lambda: spark, "items", str(tmp_path), {"id": ID}, {})
    assert source.table.rows == read_source(spark, source).count() == 5
    assert source.table.passed_over == ("_items.parquet", "notes.txt")


@pytest.mark.parametrize("name", ["b.parquet.gz", "b.parquet.bak", "b.data"])
def test_what_looks_like_parquet_and_is_called_otherwise_is_refused(tmp_path: Path, name: str):
    write(tmp_path / "a.parquet", {"id": [1]})
    write(tmp_path / name, {"id": [2]})
    assert refusal(tmp_path, {"id": ID}).message.startswith(str(tmp_path / name))


def test_names_that_spark_passes_over_or_cannot_open_are_refused(tmp_path: Path):
    for name in ("_items.parquet", ".items.parquet"):
        assert "Spark passes over" in refusal(write(tmp_path / "x" / name, {"id": [1]}), {"id": ID}).message
    write(tmp_path / "y" / "a:b.parquet", {"id": [1]})
    assert "colon in its name" in refusal(tmp_path / "y", {"id": ID}).message
    write(tmp_path / "w: [1]" / "a.parquet", {"id": [1]})
    assert "colon in its path" in refusal(tmp_path / "w: [1]", {"id": ID}).message
    write(tmp_path / "z" / "a.parquet", {"id": [1]}).rename(tmp_path / "z" / os.fsdecode(b"\xff.parquet"))
    assert "not UTF-8" in refusal(tmp_path / "z", {"id": ID}).message


def test_links_are_followed_once_and_those_to_nothing_are_refused(spark: SparkSession, tmp_path: Path):
    write(tmp_path / "store" / "_v1.parquet", {"id": [1]})
    table = tmp_path / "table"
    table.mkdir()
    (table / "part.parquet").symlink_to(tmp_path / "store" / "_v1.parquet")
    write(tmp_path / "more" / "b.parquet", {"id": [2]})
    (table / "sub").symlink_to(tmp_path / "more")
    assert read(spark, table, {"id": ID}) == {"id": [1, 2]}
    assert read(spark, table / "part.parquet", {"id": ID}) == {"id": [1]}
    (table / "again").symlink_to(table)
    assert "two ways" in refusal(table, {"id": ID}).message
    (table / "again").unlink()
    (table / "latest.parquet").symlink_to(table / "part.parquet")
    assert "are one file" in refusal(table, {"id": ID}).message
    (table / "latest.parquet").unlink()
    (table / "gone.parquet").symlink_to(tmp_path / "gone")
    assert "link to nothing" in refusal(table, {"id": ID}).message


def test_folder_names_give_columns(spark: SparkSession, tmp_path: Path):
    for n, folder in enumerate(("brand=Acme%2FCo", "brand=50%", "brand=__HIVE_DEFAULT_PARTITION__", "brand=ü b+c")):
        write(tmp_path / folder / "kind.of=x" / "a.parquet", {"id": [n]})
    write(tmp_path / "brand=ignored" / "kind.of=y" / "a.parquet", {"id": [4], "brand": ["own"]})
    found = read(spark, tmp_path, {"id": ID, "brand": TEXT, "kind.of": ANY, "made": TEXT}, {"made": "upper(brand)"})
    by_id = sorted(zip(found["id"], found["brand"], found["kind.of"], found["made"], strict=True))
    assert by_id == [
        (0, "Acme/Co", "x", "ACME/CO"), (1, "50%", "x", "50%"), (2, None, "x", None), (3, "ü b+c", "x", "Ü B+C"),
        (4, "own", "y", "OWN"),
    ]  # fmt: skip
    write(tmp_path / "flat.parquet", {"id": [5]})
    assert "flat.parquet of the items table lacks the column 'brand'" in refusal(tmp_path, {"brand": TEXT}).message


@pytest.mark.parametrize("keeper", ["_delta_log/0.json", "metadata/v1.metadata.json", ".hoodie/x", "_spark_metadata/0"])
def test_a_table_whose_log_says_which_files_are_live_is_refused_at_every_level(tmp_path: Path, keeper: str):
    lake = tmp_path / "shop" / "lake"
    file = write(lake / "data" / "day=1" / "a.parquet", {"id": [1]})
    assert read_nothing(file)
    (lake / keeper).parent.mkdir()
    (lake / keeper).write_text("{}")
    for n, target in enumerate((file, lake / "data")):
        (tmp_path / "links" / str(n)).mkdir(parents=True)
        (tmp_path / "links" / str(n) / "x.parquet").symlink_to(target)
    links = [tmp_path / "links" / "0", tmp_path / "links" / "1", tmp_path / "links" / "1" / "x.parquet"]
    for path in (tmp_path / "shop", lake, lake / "data", lake / "data" / "day=1", file, *links):
        error = refusal(path, {"id": ID})
        assert f"{lake} is " in error.message
        assert "plain Parquet" in error.hint


def read_nothing(path: Path) -> bool:
    return check_source(lambda: None, "items", str(path), {"id": ID}, {}).table.rows == 1


# Pages that Spark cannot read ---------


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"compression": "brotli"}, "compressed by brotli"),
        ({"use_dictionary": False, "use_byte_stream_split": True}, "encoded as BYTE_STREAM_SPLIT"),
    ],
)
def test_pages_that_spark_cannot_read_are_named_as_what_they_are(spark, tmp_path: Path, how, words: str):
    path = write(tmp_path / "a.parquet", {"x": [1.5]}, **how)
    error = refusal(path, {"x": ANY})
    assert words in error.message and "damaged" not in error.message
    assert "snappy, zstd or gzip" in error.hint
    table = pa.table({"id": ["a"], "x": [1.5]})
    pq.write_table(table, path, compression={"id": "zstd", "x": "brotli"})
    assert read(spark, path, {"id": ID}) == {"id": ["a"]}


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4"])
def test_compressions_that_spark_knows_are_read(spark: SparkSession, tmp_path: Path, compression: str):
    encodings = {"n": "DELTA_BINARY_PACKED", "s": "DELTA_BYTE_ARRAY", "t": "DELTA_LENGTH_BYTE_ARRAY"}
    path = write(
        tmp_path / "a.parquet", {"n": [1, 5], "s": ["a", "ab"], "t": ["x" * 99, "y"]},
        compression=compression, use_dictionary=False, column_encoding=encodings, data_page_version="2.0",
    )  # fmt: skip
    assert read(spark, path, {"n": ID, "s": TEXT, "t": TEXT}) == {"n": [1, 5], "s": ["a", "ab"], "t": ["x" * 99, "y"]}


class _Keys(pe.KmsClient):
    """Hands out keys as they are."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_a_file_that_is_encrypted_or_has_encrypted_columns_is_called_that(tmp_path: Path, plaintext_footer: bool):
    how = pe.EncryptionConfiguration(footer_key="f", column_keys={"k": ["x"]}, plaintext_footer=plaintext_footer)
    keys = pe.CryptoFactory(lambda _: _Keys()).file_encryption_properties(pe.KmsConnectionConfig(), how)
    table = pa.table({"id": [1], "x": ["a"]})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, encryption_properties=keys) as writer:
        writer.write_table(table)
    assert "is encrypted" in refusal(tmp_path, {"x": ANY}).message


# Advice ---------


@pytest.mark.parametrize(
    ("kind", "value", "wanted", "expression", "mended"),
    [
        (pa.float64(), 7.0, ID, "cast(x as bigint)", 7),
        (pa.decimal128(9, 0), decimal.Decimal(7), ID, "cast(x as bigint)", 7),
        (pa.binary(), b"a", ID, "decode(x, 'UTF-8')", "a"),
        (pa.string(), "a,b", TAGS, "split(x, ',')", ["a", "b"]),
        (pa.string(), "[1,2.5]", VECTOR, "from_json(x, 'array<float>')", [1.0, 2.5]),
        (pa.list_(pa.int32()), [1], VECTOR, "cast(x as array<float>)", [1.0]),
        (pa.string(), "2.5", NUMBER, "try_cast(x as double)", 2.5),
        (pa.string(), "YQ==", BYTES, "unbase64(x)", b"a"),
    ],
)
def test_a_column_of_the_wrong_type_is_told_the_expression_that_mends_it(
    spark: SparkSession, tmp_path: Path, kind, value, wanted: ColumnType, expression: str, mended
):
    path = write(tmp_path / "a.parquet", {"x": pa.array([value], kind)})
    assert f'inputs.items.derived: {{my_x: "{expression}"}}' in refusal(path, {"x": wanted}).hint
    assert read(spark, path, {"my_x": wanted}, {"my_x": expression}) == {"my_x": [mended]}


# Any of it ---------

LETTERS = st.text(st.sampled_from([*string.printable, *"äß日😀"]), min_size=0, max_size=6)
COLUMNS = st.dictionaries(
    LETTERS, st.lists(st.integers(0, len(SCALARS) - 1), min_size=1, max_size=1), min_size=1, max_size=5
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(columns=COLUMNS, folder=LETTERS, parts=st.integers(1, 2))
def test_any_names_types_and_folders_give_the_values_or_a_refusal_by_name(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, columns, folder: str, parts: int
):
    path = tmp_path_factory.mktemp("any") / ("x" + folder.replace("/", "").replace("\0", ""))
    arrays = {name: SCALARS[n] for name, (n,) in columns.items()}
    for part in range(parts):
        table = [pa.array([value, None], kind) for kind, value, _ in arrays.values()]
        write(path / f"{part}.parquet", pa.Table.from_arrays(table, list(arrays)))
    if ":" in path.name and PATTERN.search(path.name):
        assert "colon in its path" in refusal(path, dict.fromkeys(columns, ANY)).message
        return
    if len({name.lower() for name in columns}) < len(columns):
        assert "differ only in case" in refusal(path, dict.fromkeys(columns, ANY)).message
        return
    wanted = {name: text for name, (_, _, text) in arrays.items()}
    assert texts(spark, path, list(columns)) == [wanted, {}] * parts
