"""Tensors there and back: every row once, fair shards, seeded order, and nothing read that was not written."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from petastorm import make_batch_reader
from pyspark.sql import SparkSession
from support import described

from crossweave.errors import ReconciliationError, TableError
from crossweave.feeding.arrays import bytes_to_arrays, lists_to_bytes
from crossweave.feeding.datasets import TensorFile
from crossweave.feeding.interactions import read_interactions
from crossweave.feeding.items import forget_items, host_cache, open_items
from crossweave.feeding.manifest import Manifest, load_manifest
from crossweave.feeding.reader import read_row_groups
from crossweave.feeding.schema import SEQUENCES, items_schema
from crossweave.feeding.sequences import read_all, read_epoch
from crossweave.feeding.writer import write_dataset

USERS, GROUP_ROWS = 23, 4  # six row groups: five of four rows, one of three
ITEMS, DIM = 7, 2
I4, F4 = np.dtype("<i4"), np.dtype("<f4")


def history(user: int) -> list[int]:
    return [100 * user + n for n in range(user % 3)]  # every third user has none


def write_sequences(spark: SparkSession, folder: Path) -> None:
    rows = []
    for user in range(USERS):
        items = np.array(history(user), I4)
        held_out = np.array([user], I4) if user % 2 else np.array([], I4)
        codes = np.array([user % 4, 2], I4)
        parts = (codes, items, items.astype("<f4"), items.astype("<i8"), held_out)
        rows.append((user, user, *(bytearray(part.tobytes()) for part in parts)))
    columns = (
        "position int, user_index int, attributes binary, items binary, weights binary, times binary, held_out binary"
    )
    frame = spark.createDataFrame(rows, columns).repartition(3)
    write_dataset(spark, frame, SEQUENCES, folder, "position", GROUP_ROWS, -(-USERS // GROUP_ROWS))


def write_items(spark: SparkSession, folder: Path) -> None:
    rows = []
    for item in range(ITEMS):
        vector = np.array([item, -item / 2], "<f2")
        rows.append((item, item, float(10 * item), item != 3, bytearray(vector.tobytes()), item % 2 == 0))
    columns = (
        "position int, item_index int, popularity float, candidate boolean, vector_text binary, present_text boolean"
    )
    write_dataset(spark, spark.createDataFrame(rows, columns), items_schema(["text"]), folder, "position", 3, 3)


@pytest.fixture(scope="module")
def written(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A tensor set that no test changes."""
    folder = tmp_path_factory.mktemp("tensors") / "set"
    write_items(spark, folder / "items")
    write_sequences(spark, folder / "sequences")
    manifest = Manifest(
        folder=folder,
        fingerprint=folder.parent.name.ljust(32, "0"),
        modalities={"text": DIM},
        items=ITEMS,
        users=USERS,
        item_files=described(folder / "items"),
        sequence_files=described(folder / "sequences"),
        attributes={"country": ("de", "fr"), "age": ()},
    )
    manifest.save()
    return manifest


@pytest.fixture
def copy(written: Manifest, tmp_path: Path) -> Manifest:
    """A copy of the tensor set, to be spoilt."""
    folder = tmp_path / "set"
    shutil.copytree(written.folder, folder)
    return dataclasses.replace(written, folder=folder, fingerprint=os.urandom(16).hex())


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep each test's memory-mapped arrays to itself."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield


def users(manifest: Manifest, shard: int = 0, shards: int = 1, seed: int | None = None) -> list[int]:
    groups = read_row_groups(manifest, "sequences", shard, shards, seed)
    return [int(user) for group in groups for user in group["user_index"]]


def epoch(
    manifest: Manifest, shard: int, shards: int, seed: int, batch: int, steps: int
) -> list[list[tuple[int, ...]]]:
    """Return each step's rows as (items …, held out …) with the lengths told apart by a -1."""
    return [
        [(*items.tolist(), -1, *held.tolist()) for items, held in zip(rows.items, rows.held_out, strict=True)]
        for rows in read_epoch(manifest, shard, shards, seed, batch, steps)
    ]


EVERY_ROW = Counter((*history(user), -1, *([user] if user % 2 else [])) for user in range(USERS))


# ── written ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_row_group_is_a_file_of_the_wanted_rows_and_the_last_holds_the_rest(written: Manifest) -> None:
    assert sorted(file.row_groups for file in written.sequence_files) == [(3,), *[(4,)] * 5]
    assert (written.rows("sequences"), written.rows("items")) == (USERS, ITEMS)


def test_rows_of_a_row_group_are_neighbours_in_their_order(written: Manifest) -> None:
    groups = [pq.read_table(path)["user_index"].to_pylist() for path in written.places("sequences")]
    assert sorted(groups) == [list(range(n, min(n + GROUP_ROWS, USERS))) for n in range(0, USERS, GROUP_ROWS)]


def test_a_manifest_comes_back_equal_and_a_folder_without_one_is_not_a_tensor_set(
    written: Manifest, tmp_path: Path
) -> None:
    assert load_manifest(written.folder) == written
    assert load_manifest(tmp_path) is None


def test_a_torn_manifest_is_refused_by_name(copy: Manifest) -> None:
    path = copy.folder.local / "manifest.json"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(TableError, match=r"manifest\.json is not readable as JSON"):
        load_manifest(copy.folder)


# ── read ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unsharded_read_gives_every_row_once_in_the_order_of_the_files(written: Manifest) -> None:
    by_file = [user for path in written.places("sequences") for user in pq.read_table(path)["user_index"].to_pylist()]
    assert users(written) == by_file
    assert sorted(by_file) == list(range(USERS))


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_are_disjoint_and_together_complete(written: Manifest, shards: int, seed: int | None) -> None:
    parts = [users(written, shard, shards, seed) for shard in range(shards)]
    assert sorted(user for part in parts for user in part) == list(range(USERS))
    assert [len(part) for part in parts] == [written.rows("sequences", shard, shards) for shard in range(shards)]
    assert min(len(part) for part in parts) >= 7  # no shard starves


def test_a_seed_settles_the_order_of_row_groups(written: Manifest) -> None:
    orders = [users(written, seed=seed) for seed in range(1, 7)]
    assert [users(written, seed=seed) for seed in range(1, 7)] == orders
    assert len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == list(range(USERS)) for order in orders)


def test_seed_0_settles_the_order_like_any_other(written: Manifest) -> None:
    assert len({tuple(users(written, seed=0)) for _ in range(8)}) == 1


def test_values_come_back_as_they_were_written(written: Manifest) -> None:
    rows = [row for group in read_all(written, 0, 1) for row in zip(group.items, group.held_out, strict=True)]
    assert Counter((*items.tolist(), -1, *held.tolist()) for items, held in rows) == EVERY_ROW
    assert {(items.dtype, held.dtype) for items, held in rows} == {(I4, I4)}


def test_every_row_knows_its_user_and_the_user_s_attributes(written: Manifest) -> None:
    groups = [*read_all(written, 0, 1), *read_epoch(written, 0, 1, seed=2, batch=5, steps=5)]
    for group in groups:
        assert (group.user_R.dtype, group.attributes_RA.dtype) == (I4, I4)
        assert group.attributes_RA.tolist() == [[user % 4, 2] for user in group.user_R.tolist()]
        assert [items.tolist() for items in group.items] == [history(user) for user in group.user_R.tolist()]
    assert sorted(user for group in groups[: len(written.sequence_files)] for user in group.user_R) == [*range(USERS)]


def test_all_interactions_come_with_the_users_attributes(written: Manifest) -> None:
    wide = dataclasses.replace(written, items=100 * USERS + 3)
    assert read_interactions(wide).attributes_UA.tolist() == [[user % 4, 2] for user in range(USERS)]


def test_more_shards_than_row_groups_leave_some_without_rows(written: Manifest) -> None:
    parts = [users(written, shard, 8) for shard in range(8)]
    assert [len(part) > 0 for part in parts] == [True] * 6 + [False] * 2


@pytest.mark.parametrize("batch", [1, 4, 5, 23, 50])
def test_an_epoch_of_enough_steps_gives_every_row_exactly_once(written: Manifest, batch: int) -> None:
    steps = -(-USERS // batch)
    batches = epoch(written, 0, 1, seed=1, batch=batch, steps=steps)
    assert len(batches) == steps
    assert Counter(row for rows in batches for row in rows) == EVERY_ROW
    assert [len(rows) for rows in batches[:-1]] == [batch] * (steps - 1)


@pytest.mark.parametrize("shards", [1, 2, 3, 6, 8])
def test_every_rank_gets_equal_steps_however_uneven_the_shards(written: Manifest, shards: int) -> None:
    steps = max(-(-written.rows("sequences", shard, shards) // 4) for shard in range(shards)) + 2
    for shard in range(shards):
        batches = epoch(written, shard, shards, seed=3, batch=4, steps=steps)
        assert len(batches) == steps
        assert min(len(rows) for rows in batches) >= 1


def test_two_ranks_share_an_epoch_without_overlap(written: Manifest) -> None:
    rows = Counter()
    for shard in range(2):
        steps = -(-written.rows("sequences", shard, 2) // 4)
        rows += Counter(row for batch in epoch(written, shard, 2, 3, 4, steps) for row in batch)
    assert rows == EVERY_ROW


def test_the_same_seed_gives_the_same_epoch_and_another_seed_another(written: Manifest) -> None:
    assert epoch(written, 0, 1, 11, 4, 6) == epoch(written, 0, 1, 11, 4, 6)
    assert epoch(written, 0, 1, 11, 4, 6) != epoch(written, 0, 1, 12, 4, 6)


def test_rows_of_different_row_groups_are_mixed(written: Manifest) -> None:
    batches = epoch(written, 0, 1, 11, 4, 6)
    groups = [{row[0] // 100 // GROUP_ROWS for row in rows if row[0] >= 0} for rows in batches]
    assert any(len(found) > 1 for found in groups)


# ── refused ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("difference", [1, -1])
def test_rows_that_differ_from_the_manifest_fail_loudly(copy: Manifest, difference: int) -> None:
    first = copy.sequence_files[0]
    promised = dataclasses.replace(first, row_groups=(first.row_groups[0] + difference,))
    manifest = dataclasses.replace(copy, sequence_files=(promised, *copy.sequence_files[1:]))
    with pytest.raises(ReconciliationError) as caught:
        users(manifest)
    assert f"gave {USERS} rows, the manifest promises {USERS + difference}" in caught.value.message
    with pytest.raises(ReconciliationError):
        epoch(manifest, 0, 1, seed=1, batch=4, steps=10)


def test_an_untouched_set_is_verified(copy: Manifest) -> None:
    copy.verify()


@pytest.mark.parametrize("dataset", ["items", "sequences"])
@pytest.mark.parametrize("damage", ["missing", "longer", "one bit"])
def test_a_changed_or_missing_file_is_refused_by_name(copy: Manifest, dataset: str, damage: str) -> None:
    path = copy.places(dataset)[1].local
    raw = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        raw[20] ^= 1
        path.write_bytes(raw if damage == "one bit" else path.read_bytes() + b"\x00")
    with pytest.raises(TableError) as caught:
        copy.verify()
    what = {
        "missing": "cannot be read: No such file or directory",
        "longer": f"has {len(raw) + 1} bytes instead of {len(raw)}",
        "one bit": "is not the one that was written: its sha-256 differs",
    }
    assert caught.value.message == f"tensor file {path} {what[damage]}"
    assert "./submit.sh tensors" in caught.value.hint
    with pytest.raises(TableError, match=path.name):  # nor is it read by whoever does not ask first
        list(read_row_groups(copy, dataset))


class Poison:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return eval, (f"__import__('os').mkdir({str(self.marker)!r})",)  # builtins pass Petastorm's allowlist


@pytest.mark.parametrize("dataset", ["items", "sequences"])
def test_a_poisoned_common_metadata_is_not_run(copy: Manifest, dataset: str, tmp_path: Path) -> None:
    marker = tmp_path / "the poison ran"
    poison = pickle.dumps(Poison(marker))
    folder = copy.folder.local / dataset
    schema = pq.read_schema(copy.places(dataset)[0])
    notes = {b"dataset-toolkit.unischema.v1": poison, b"dataset-toolkit.num_row_groups_per_file.v1": b"{}"}
    for name in ("_common_metadata", "_metadata"):
        (folder / f".{name}.crc").unlink(missing_ok=True)
        pq.write_metadata(schema.with_metadata(notes), folder / name)
    rows = sum(len(next(iter(group.values()))) for group in read_row_groups(copy, dataset))
    assert rows == copy.rows(dataset)
    if dataset == "items":
        open_items(copy)
    assert not marker.exists()


def test_the_poison_of_that_test_would_run_in_a_reader_that_is_given_the_folder(copy: Manifest, tmp_path: Path) -> None:
    marker = tmp_path / "the poison ran"
    folder = copy.folder.local / "sequences"
    notes = {b"dataset-toolkit.unischema.v1": pickle.dumps(Poison(marker))}
    (folder / "._common_metadata.crc").unlink(missing_ok=True)
    pq.write_metadata(pq.read_schema(copy.places("sequences")[0]).with_metadata(notes), folder / "_common_metadata")
    # What Petastorm makes of a schema that is none does not matter here.
    with (
        contextlib.suppress(Exception),
        make_batch_reader(folder.as_uri(), reader_pool_type="dummy", num_epochs=1) as reader,
    ):
        list(reader)
    assert marker.exists()


# ── arrays ─────────────────────────────────────────────────────────────────────────────────────────────────────────

LISTS = [[1, 2], [], None, [3], [4, 5, 6], []]


@pytest.mark.parametrize(("start", "length"), [(0, 6), (1, 4), (3, 2), (2, 1), (5, 1), (6, 0), (4, 2)])
def test_lists_become_bytes_and_arrays_again_also_from_slices(start: int, length: int) -> None:
    column = pa.array(LISTS, pa.list_(pa.int32())).slice(start, length)
    packed = lists_to_bytes(column, I4)
    assert packed.null_count == 0
    arrays = bytes_to_arrays(packed.to_pylist(), I4)
    assert [array.tolist() for array in arrays] == [value or [] for value in LISTS[start : start + length]]
    assert all(array.dtype == I4 for array in arrays)


@pytest.mark.parametrize(("start", "length"), [(0, 4), (1, 2), (2, 2)])
def test_lists_without_nulls_are_sliced_by_their_own_offsets(start: int, length: int) -> None:
    lists = [[1.5], [], [2.5, 3.5], [4.5]]
    column = pa.array(lists, pa.list_(pa.float32())).slice(start, length)
    arrays = bytes_to_arrays(lists_to_bytes(column, F4).to_pylist(), F4)
    assert [array.tolist() for array in arrays] == lists[start : start + length]


def test_bytes_are_little_endian() -> None:
    assert lists_to_bytes(pa.array([[1, 258]], pa.list_(pa.int32())), I4).to_pylist() == [b"\x01\0\0\0\x02\x01\0\0"]


def test_nothing_but_empty_lists_and_no_lists_at_all_are_fine() -> None:
    packed = lists_to_bytes(pa.array([[], [], None], pa.list_(pa.int32())), I4)
    assert packed.to_pylist() == [b"", b"", b""]
    assert [array.tolist() for array in bytes_to_arrays(packed.to_pylist(), I4)] == [[], [], []]
    assert bytes_to_arrays(lists_to_bytes(pa.array([], pa.list_(pa.int32())), I4).to_pylist(), I4) == []


def test_null_elements_and_elements_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match="null elements"):
        lists_to_bytes(pa.array([[1, None]], pa.list_(pa.int32())), I4)
    with pytest.raises(ValueError, match="expected elements of type int32, got int64"):
        lists_to_bytes(pa.array([[1]], pa.list_(pa.int64())), I4)


def test_bytes_that_are_no_whole_number_of_elements_are_refused_although_they_add_up() -> None:
    with pytest.raises(ValueError, match="2 bytes"):
        bytes_to_arrays([b"\x01\x00", b"\x00\x00"], I4)


# ── items ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_open_items_gives_every_feature_by_item_index(written: Manifest) -> None:
    items = open_items(written)
    assert items.count == ITEMS
    assert items.vectors["text"].tolist() == [[i, -i / 2] for i in range(ITEMS)]
    assert items.present_NM.tolist() == [[i % 2 == 0] for i in range(ITEMS)]
    assert items.popularity_N.tolist() == [10.0 * i for i in range(ITEMS)]
    assert items.candidate_N.tolist() == [i != 3 for i in range(ITEMS)]


def test_vectors_are_memory_mapped_float16_that_nobody_can_change(written: Manifest) -> None:
    vectors = open_items(written).vectors["text"]
    assert isinstance(vectors, np.memmap)
    assert vectors.dtype == np.float16
    with pytest.raises(ValueError, match="read-only"):
        vectors[0, 0] = 1


def test_a_second_opening_reads_the_arrays_and_not_the_dataset(copy: Manifest) -> None:
    first = open_items(copy)
    shutil.rmtree(copy.folder)
    assert open_items(copy).vectors["text"].tolist() == first.vectors["text"].tolist()
    assert host_cache(copy).folder.stat().st_mode & 0o077 == 0  # the host's other users do not see them
    forget_items(copy)
    assert not host_cache(copy).folder.exists()


def test_another_set_of_the_same_fingerprint_is_not_taken_for_this_one(copy: Manifest) -> None:
    """Two shops with the same settings: their arrays lie side by side on one host."""
    first = open_items(copy)
    folder = copy.folder.local.with_name("other")
    shutil.copytree(copy.folder.local / "items", folder / "items")
    for path in sorted((folder / "items").glob("part-*.parquet")):
        table = pq.read_table(path)
        doubled = pa.array([row[:3] + b"\x40" for row in table.column("vector_text").to_pylist()], pa.binary())
        pq.write_table(table.set_column(table.column_names.index("vector_text"), "vector_text", doubled), path)
    other = dataclasses.replace(copy, folder=folder, item_files=described(folder / "items"))
    assert other.fingerprint == copy.fingerprint
    assert open_items(other).vectors["text"].tolist() != first.vectors["text"].tolist()
    assert open_items(copy).vectors["text"].tolist() == first.vectors["text"].tolist()


def test_a_dataset_that_lacks_an_item_is_refused(copy: Manifest) -> None:
    more = dataclasses.replace(copy, items=ITEMS + 1)
    with pytest.raises(ReconciliationError, match="lack 1 of 8 items"):
        open_items(more)
    assert not host_cache(more).folder.exists()


def test_a_dataset_that_holds_an_item_twice_is_refused(copy: Manifest) -> None:
    shutil.copy(copy.places("items")[0], copy.folder.local / "items" / "part-99999-twice.parquet")
    with pytest.raises(ReconciliationError):
        open_items(dataclasses.replace(copy, item_files=described(copy.folder.local / "items")))


def test_a_tensor_file_s_description_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "part-0.parquet"
    pq.write_table(pa.table({"x": list(range(5))}), path, row_group_size=2)
    (tmp_path / "_SUCCESS").touch()
    (file,) = described(tmp_path)
    assert isinstance(file, TensorFile)
    assert (file.name, file.mark.size, file.row_groups) == ("part-0.parquet", path.stat().st_size, (2, 2, 1))
