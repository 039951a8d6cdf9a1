"""The written shop: files, counts, bytes, parts played by items and users, and safety of the folder."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossweave.demo import ShopSummary, generate_shop
from crossweave.errors import SettingsError

FILES = ["broken.json", "interactions.parquet", "items.parquet", "users.parquet"]
SMALL = {"items": 60, "users": 40, "interactions": 800}
TINY = {"items": 40, "users": 10, "interactions": 60}


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> ShopSummary:
    return generate_shop(tmp_path_factory.mktemp("demo") / "shop", **SMALL)


@pytest.fixture(scope="module")
def items(summary: ShopSummary) -> pd.DataFrame:
    return pq.read_table(summary.folder / "items.parquet").to_pandas()


@pytest.fixture(scope="module")
def interactions(summary: ShopSummary) -> pd.DataFrame:
    return pq.read_table(summary.folder / "interactions.parquet").to_pandas()


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_summary_counts_what_is_in_the_files(summary: ShopSummary) -> None:
    rows = {name: pq.read_metadata(summary.folder / name).num_rows for name in FILES[1:]}
    assert sorted(path.name for path in summary.folder.iterdir()) == FILES
    assert rows == {
        "items.parquet": summary.items_rows,
        "users.parquet": summary.users_rows,
        "interactions.parquet": summary.interactions_rows,
    }
    assert (summary.items_rows, summary.users_rows, summary.interactions_rows) == (62, 40, 800)


def test_the_columns_have_the_promised_types(summary: ShopSummary) -> None:
    schemas = {name: pq.read_schema(summary.folder / name) for name in FILES[1:]}
    assert {field.name: str(field.type) for field in schemas["items.parquet"]} == {
        "item_id": "int64",
        "title": "string",
        "description": "string",
        "category": "string",
        "price": "double",
        "released": "int32",
        "tags": "list<element: string>",
        "image": "binary",
        "sound": "binary",
        "style_vector": "list<element: float>",
        "cold": "bool",
    }
    assert {field.name: str(field.type) for field in schemas["users.parquet"]} == {
        "user_id": "string",
        "age_group": "string",
        "country": "string",
        "joined": "date32[day]",
    }
    assert {field.name: str(field.type) for field in schemas["interactions.parquet"]} == {
        "user_id": "string",
        "item_id": "int64",
        "rating": "double",
        "event_time": str(pa.timestamp("us", tz="UTC")),
    }


def test_the_same_arguments_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    generate_shop(tmp_path / "here", **TINY)
    script = (
        f"from pathlib import Path; from crossweave.demo import generate_shop; generate_shop(Path('there'), **{TINY})"
    )
    # Another hash seed orders sets differently: none of them may reach the files.
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    assert _bytes_of(tmp_path / "here") == _bytes_of(tmp_path / "there")


def test_another_seed_gives_another_shop(tmp_path: Path, summary: ShopSummary) -> None:
    other = generate_shop(tmp_path / "other", **SMALL, seed=18)
    ours, theirs = _bytes_of(summary.folder), _bytes_of(other.folder)
    assert all(ours[name] != theirs[name] for name in FILES)
    assert other.broken == summary.broken


def test_no_user_has_an_item_twice(interactions: pd.DataFrame) -> None:
    assert not interactions.duplicated(["user_id", "item_id"]).any()


def test_events_lie_in_the_window_in_order_and_after_the_user_joined(
    summary: ShopSummary, interactions: pd.DataFrame
) -> None:
    times = interactions["event_time"]
    assert times.is_monotonic_increasing
    assert times.min() >= pd.Timestamp("2025-10-03", tz="UTC")
    assert times.max() < pd.Timestamp("2026-01-01", tz="UTC")
    users = pq.read_table(summary.folder / "users.parquet").to_pandas().set_index("user_id")
    joined = pd.to_datetime(users["joined"]).dt.tz_localize("UTC")
    assert (times.to_numpy() >= joined[interactions["user_id"]].to_numpy()).all()


def test_ratings_are_half_stars_from_one_to_five(interactions: pd.DataFrame) -> None:
    stars = interactions["rating"]
    assert stars.between(1, 5).all()
    assert ((stars * 2) % 1 == 0).all()
    assert stars.nunique() > 4


def test_some_items_are_new_and_withheld_ones_are_sold(items: pd.DataFrame, interactions: pd.DataFrame) -> None:
    proper = items.iloc[:60]
    sold = proper["item_id"].isin(interactions["item_id"])
    assert 3 <= (~sold).sum() <= 6
    assert proper["cold"].sum() == 5
    assert sold[proper["cold"]].all()


def test_some_users_bought_nothing(summary: ShopSummary, interactions: pd.DataFrame) -> None:
    users = pq.read_table(summary.folder / "users.parquet").to_pandas()["user_id"]
    assert users.is_unique
    assert set(interactions["user_id"]) < set(users)
    assert (~users.isin(interactions["user_id"])).sum() == 2


def test_item_ids_have_gaps(items: pd.DataFrame) -> None:
    ids = items["item_id"].iloc[:60].astype("int64")
    assert (ids.diff().dropna() == 7).all()


@pytest.mark.parametrize(
    ("column", "share"),
    [("image", 0.10), ("sound", 0.25), ("description", 0.05), ("tags", 0.08), ("style_vector", 0.10)],
)
def test_every_content_is_missing_about_as_often_as_asked(items: pd.DataFrame, column: str, share: float) -> None:
    assert items[column].iloc[:60].isna().sum() == max(3, round(share * 60))


def test_one_item_has_only_a_title_and_one_has_no_content_at_all(items: pd.DataFrame) -> None:
    contents = ["description", "tags", "image", "sound", "style_vector"]
    bare = items[items[contents].isna().all(axis=1)]
    only_title = bare[bare["title"].notna()]
    nothing = bare[bare["title"].isna()]
    assert len(only_title) == len(nothing) == 1
    assert only_title[["category", "price", "released"]].isna().all(axis=None)
    assert nothing[["category", "price", "released"]].notna().all(axis=None)


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    generate_shop(tmp_path / "shop", **TINY, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 42) for done in range(1, 43)]


def test_a_run_that_dies_leaves_the_earlier_shop_and_nothing_else(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    generate_shop(shop, **TINY)
    before = _bytes_of(shop)

    def die(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_shop(shop, **TINY, seed=3, progress=die)
    assert _bytes_of(shop) == before
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_an_earlier_shop_is_replaced(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    generate_shop(shop, **TINY)
    before = _bytes_of(shop)
    generate_shop(shop, **TINY, seed=3)
    assert _bytes_of(shop).keys() == before.keys()
    assert _bytes_of(shop)["items.parquet"] != before["items.parquet"]
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_a_folder_with_other_things_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SettingsError, match=r"thesis\.txt"):
        generate_shop(tmp_path, **TINY)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "sizes", [TINY | {"items": 39}, TINY | {"users": 9}, TINY | {"interactions": 12}, TINY | {"interactions": 201}]
)
def test_impossible_sizes_are_refused(tmp_path: Path, sizes: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=r"interactions|items"):
        generate_shop(tmp_path / "shop", **sizes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("interactions", [13, 200])
def test_the_smallest_and_the_fullest_shop_have_exactly_the_asked_interactions(
    tmp_path: Path, interactions: int
) -> None:
    summary = generate_shop(tmp_path / "shop", **TINY | {"interactions": interactions})
    assert summary.interactions_rows == interactions
