"""Preflight: every footer is read, and what is wrong is named with its file and column before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossweave.errors import InputContractError
from crossweave.storage.location import Location
from crossweave.tables.contract import (
    ANY,
    BYTES,
    FLAG,
    ID,
    NUMBER,
    TAGS,
    TEXT,
    TIME,
    VECTOR,
    ColumnType,
    wanted_columns,
)
from crossweave.tables.footers import InputTable, preflight

COLUMNS = {"item_id": ID, "title": TEXT}


def put(path: Path, rows: int = 2, **columns: pa.Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"item_id": pa.array(range(rows), pa.int64()), "title": pa.array(["t"] * rows, pa.string())} | columns
    pq.write_table(pa.table(values), path)
    return path


def refusal(path: Path, columns: dict[str, ColumnType] = COLUMNS) -> str:
    with pytest.raises(InputContractError) as caught:
        preflight("items", str(path), columns)
    assert caught.value.exit_code == 3
    return caught.value.message


def test_a_good_folder_gives_its_files_rows_and_schema(tmp_path: Path) -> None:
    second, first = put(tmp_path / "b.parquet", 3), put(tmp_path / "a.parquet", 2)
    table = preflight("items", str(tmp_path), COLUMNS)
    assert isinstance(table, InputTable)
    assert (table.name, table.files, table.rows) == ("items", (Location.of(first), Location.of(second)), 5)
    assert table.is_integer("item_id") and not table.is_integer("title")


def test_a_single_file_is_a_table_and_needs_no_suffix(tmp_path: Path) -> None:
    path = put(tmp_path / "items.data", 4)
    assert preflight("items", str(path), COLUMNS).rows == 4


def test_a_table_without_rows_passes_the_footer_checks(tmp_path: Path) -> None:
    assert preflight("items", str(put(tmp_path / "a.parquet", 0)), COLUMNS).rows == 0


def test_files_below_a_folder_are_found_and_hidden_ones_ignored(tmp_path: Path) -> None:
    wanted = [put(tmp_path / "day=1" / "a.parquet"), put(tmp_path / "day=2" / "a.parquet")]
    for hidden in (".a.parquet.crc.parquet", "_temporary/0/a.parquet", ".staging/a.parquet", "_SUCCESS.parquet"):
        (tmp_path / hidden).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / hidden).write_bytes(b"torn")
    (tmp_path / "notes.txt").write_text("not a table")
    assert preflight("items", str(tmp_path), COLUMNS).files == tuple(map(Location.of, wanted))


def test_a_table_below_a_hidden_folder_is_not_hidden_by_where_it_lies(tmp_path: Path) -> None:
    put(tmp_path / ".cache" / "_in" / "items" / "a.parquet")
    assert preflight("items", str(tmp_path / ".cache" / "_in" / "items"), COLUMNS).rows == 2


def test_a_folder_that_is_called_like_a_parquet_file_is_looked_into(tmp_path: Path) -> None:
    path = put(tmp_path / "items.parquet" / "part-0.parquet")  # as Spark writes it
    assert preflight("items", str(tmp_path), COLUMNS).files == (Location.of(path),)


def test_no_such_path_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent"
    assert refusal(path) == f"the items table {path} does not exist"


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"the items table {tmp_path} holds no .parquet file"


def test_a_file_of_0_bytes_is_named_among_good_ones(tmp_path: Path) -> None:
    put(tmp_path / "a.parquet")
    empty = tmp_path / "b.parquet"
    empty.touch()
    assert refusal(tmp_path) == f"{empty} of the items table is empty (0 bytes)"


@pytest.mark.parametrize("damage", ["truncated", "garbage", "torn footer", "text"])
def test_a_damaged_file_is_named_among_good_ones(tmp_path: Path, damage: str) -> None:
    put(tmp_path / "a.parquet")
    bad = put(tmp_path / "b.parquet", 500)
    raw = bad.read_bytes()
    bad.write_bytes(
        {
            "truncated": raw[: len(raw) // 2],
            "garbage": bytes(range(256)) * 4,
            "torn footer": raw[:-60] + b"\x00" * 52 + raw[-8:],
            "text": b"item_id,title\n1,a\n",
        }[damage]
    )
    assert refusal(tmp_path).startswith(f"{bad} of the items table is not readable Parquet: ")


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    put(tmp_path / "a.parquet", subtitle=pa.array(["x", "y"]))
    bad = put(tmp_path / "b.parquet")
    message = refusal(tmp_path, COLUMNS | {"subtitle": TEXT})
    assert message == f"{bad} of the items table lacks the column 'subtitle'; it has item_id, title"


def test_a_column_s_name_is_taken_to_the_letter(tmp_path: Path) -> None:
    put(tmp_path / "a.parquet")
    assert "lacks the column 'Title'" in refusal(tmp_path, {"Title": TEXT})


def test_a_retyped_column_is_named_with_what_was_expected_and_what_came(tmp_path: Path) -> None:
    bad = put(tmp_path / "a.parquet", title=pa.array([1.5, 2.5]))
    assert refusal(tmp_path) == f"{bad} of the items table: column 'title' should be a string, is double"


def test_a_column_whose_type_differs_between_files_is_named_although_each_alone_would_do(tmp_path: Path) -> None:
    first = put(tmp_path / "a.parquet")
    bad = put(tmp_path / "b.parquet", item_id=pa.array(["x", "y"]))
    preflight("items", str(bad), COLUMNS)
    message = refusal(tmp_path)
    assert message == f"{bad} of the items table: column 'item_id' is string, but int64 in {first}"


def test_columns_that_nobody_asked_for_may_be_anything(tmp_path: Path) -> None:
    put(tmp_path / "a.parquet", extra=pa.array([1, 2]))
    put(tmp_path / "b.parquet", extra=pa.array(["x", "y"]))
    assert preflight("items", str(tmp_path), COLUMNS).rows == 4


def test_a_column_that_two_settings_name_must_be_what_both_ask_for(tmp_path: Path) -> None:
    put(tmp_path / "a.parquet")
    both = wanted_columns([("item_id", ID), ("item_id", NUMBER), ("title", ANY), ("title", TEXT), (None, FLAG)])
    assert preflight("items", str(tmp_path), both).rows == 2
    message = refusal(tmp_path, wanted_columns([("title", TEXT), ("title", NUMBER)]))
    assert "should be a string, and a number for another setting, is string" in message


INT, STRING, DOUBLE = pa.int32(), pa.string(), pa.float64()
LIST_OF = {kind: pa.list_(kind) for kind in (INT, STRING, DOUBLE)}


@pytest.mark.parametrize(
    ("column", "taken", "refused"),
    [
        (ID, [pa.int64(), pa.uint8(), STRING, pa.large_string()], [DOUBLE, pa.binary(), pa.bool_()]),
        (TEXT, [STRING, pa.large_string()], [INT, pa.binary(), LIST_OF[STRING]]),
        (BYTES, [pa.binary(), pa.large_binary()], [STRING, LIST_OF[INT]]),
        (TAGS, [LIST_OF[STRING], pa.large_list(STRING)], [STRING, LIST_OF[INT]]),
        (VECTOR, [LIST_OF[DOUBLE], pa.list_(pa.float32())], [LIST_OF[INT], LIST_OF[STRING], DOUBLE]),
        (NUMBER, [INT, pa.int64(), pa.float32(), pa.decimal128(10, 2)], [STRING, pa.bool_(), pa.timestamp("us")]),
        (TIME, [pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.int64(), DOUBLE, STRING, pa.date32()], [pa.bool_()]),
        (FLAG, [pa.bool_()], [INT, STRING]),
        (ANY, [INT, STRING, LIST_OF[STRING]], []),
    ],
    ids=lambda value: value.words if isinstance(value, ColumnType) else "",
)
def test_each_family_takes_its_types_and_no_others(
    column: ColumnType, taken: list[pa.DataType], refused: list[pa.DataType]
) -> None:
    assert [kind for kind in taken if not column.accepts(kind)] == []
    assert [kind for kind in refused if column.accepts(kind)] == []


def test_the_fingerprint_follows_every_file_s_path_size_and_time(tmp_path: Path) -> None:
    put(tmp_path / "a.parquet")
    path = put(tmp_path / "b.parquet")

    def fingerprint() -> str:
        return preflight("items", str(tmp_path), COLUMNS).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    os.utime(path, ns=(1, 1))
    touched = fingerprint()
    path.rename(tmp_path / "c.parquet")
    renamed = fingerprint()
    put(tmp_path / "d.parquet")
    assert len({first, touched, renamed, fingerprint()}) == 4
