"""Writes the generated shop: three Parquet tables and the list of everything broken in them."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crossweave.demo.blueprint import UNKNOWN_ITEMS, Blueprint, plan_shop
from crossweave.demo.rows import ITEMS_SCHEMA, broken_items, interactions_table, item_rows, users_table
from crossweave.errors import SettingsError

FILES = ("items.parquet", "users.parquet", "interactions.parquet", "broken.json")

_MIN_ITEMS, _MIN_USERS = 40, 10
_ROW_GROUP_ITEMS = 128  # media rows are heavy: memory stays bounded, and the demo has several groups

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ShopSummary:
    """What was written: exact row counts, the broken rows included."""

    folder: Path
    items_rows: int
    users_rows: int
    interactions_rows: int
    broken: int
    """Entries of broken.json."""


def generate_shop(
    folder: Path,
    *,
    items: int = 600,
    users: int = 500,
    interactions: int = 15000,
    seed: int = 17,
    progress: Progress | None = None,
) -> ShopSummary:
    """Write the shop into the folder, whole or not at all; the same arguments give the same bytes.

    `progress(done, total)` is called after every row of items. A shop that is already there is replaced.
    """
    folder = Path(folder).resolve()
    _check_sizes(items, users, interactions, seed)
    _check_target(folder)
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    draft.mkdir(parents=True)
    try:
        summary = _write_shop(draft, folder, plan_shop(items, users, interactions, seed), progress)
        _put_in_place(draft, folder)
    except BaseException:  # an interrupt too must leave no half shop beside the folder
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return summary


def _check_sizes(items: int, users: int, interactions: int, seed: int) -> None:
    if items < _MIN_ITEMS or users < _MIN_USERS or seed < 0:
        raise SettingsError(
            f"the shop needs at least {_MIN_ITEMS} items, {_MIN_USERS} users and a seed of 0 or more, "
            f"got {items} items, {users} users, seed {seed}",
            "raise demo.items or demo.users",
        )
    least, most = users + UNKNOWN_ITEMS, items * users // 2
    if not least <= interactions <= most:
        raise SettingsError(
            f"a shop of {items} items and {users} users takes {least} to {most} interactions, got {interactions}",
            "change demo.interactions, or demo.items and demo.users",
        )


def _check_target(folder: Path) -> None:
    """Refuse to replace anything that is not a shop."""
    if not folder.exists():
        return
    found = [path.name for path in folder.iterdir()] if folder.is_dir() else ["a file"]
    strangers = sorted(set(found) - set(FILES))
    if strangers:
        raise SettingsError(
            f"{folder} is in the way: expected an empty place or an earlier shop, found {', '.join(strangers[:3])}",
            "name another folder for the demo shop",
        )


def _put_in_place(draft: Path, folder: Path) -> None:
    if not folder.exists():
        draft.rename(folder)
        return
    retired = draft.with_suffix(".old")
    folder.rename(retired)
    try:
        draft.rename(folder)
    except OSError:
        retired.rename(folder)
        raise
    shutil.rmtree(retired)


def _write_shop(draft: Path, folder: Path, plan: Blueprint, progress: Progress | None) -> ShopSummary:
    users = users_table(plan)
    interactions, broken = interactions_table(plan)
    for name, table in (("users", users), ("interactions", interactions)):
        with _writer(draft / f"{name}.parquet", table.schema) as writer:
            writer.write_table(table)
    items = _write_items(draft / "items.parquet", plan, progress)
    broken = broken_items(plan) + broken
    entries = json.dumps([cell.as_json() for cell in broken], indent=1)
    (draft / "broken.json").write_text(entries + "\n", encoding="utf-8")
    return ShopSummary(folder, items, users.num_rows, interactions.num_rows, len(broken))


def _write_items(path: Path, plan: Blueprint, progress: Progress | None) -> int:
    """Write the items group by group and return how many rows there are."""
    total, done = len(plan.item_ids) + 2, 0  # the repeated id and the missing one
    rows = item_rows(plan)
    with _writer(path, ITEMS_SCHEMA) as writer:
        while True:
            group = []
            for row in islice(rows, _ROW_GROUP_ITEMS):
                group.append(row)
                done += 1
                if progress is not None:
                    progress(done, total)
            if not group:
                return done
            writer.write_table(pa.Table.from_pylist(group, schema=ITEMS_SCHEMA))


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a writer with every setting that reaches the bytes held fixed."""
    return pq.ParquetWriter(
        path, schema, version="2.6", compression="snappy", use_dictionary=["category", "age_group", "country"]
    )
