"""The whole chain on the tiny shop: what each stage leaves behind."""

import json
import re
from collections import Counter, defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import Night, stage

STAGES = ["ingest", "embed", "tensors", "train", "score", "evaluate"]


def test_every_stage_runs_and_the_run_is_ok(night: Night):
    assert [entry["name"] for entry in night.result["stages"]] == STAGES
    assert (night.result["status"], night.result["exit_code"], night.result["error"]) == ("ok", 0, None)


def test_rows_in_are_rows_out_plus_skipped_plus_quarantined_at_every_stage(night: Night):
    for entry in night.result["stages"]:
        after = entry["rows_out"] + entry["skipped"] + sum(entry["quarantined"].values())
        assert entry["rows_in"] == after > 0, entry


def test_the_quarantine_names_every_broken_thing_with_its_reason(night: Night):
    broken = json.loads((night.chain.root / "broken.json").read_text(encoding="utf-8"))
    found = Counter((row["item_id"], row["modality"], row["reason"]) for row in night.chain.table("quarantine"))
    expected = Counter(
        (None if entry["item_id"] is None else str(entry["item_id"]), entry["modality"], entry["reason"])
        for entry in broken
    )
    assert found == expected
    assert all(row["detail"] for row in night.chain.table("quarantine"))


def test_every_item_is_in_the_catalog_once_and_every_good_content_has_a_vector(night: Night):
    catalog = night.chain.table("catalog")
    source = pq.read_table(night.chain.root / "items.parquet", columns=["item_id"]).column("item_id").to_pylist()
    assert sorted(row["item_id"] for row in catalog) == sorted({str(i) for i in source if i is not None})
    failed = {(row["modality"], row["content_hash"]) for row in night.chain.table("quarantine")}
    features = night.chain.features()
    for row in catalog:
        for modality, hashes in row["hashes"]:
            assert (hashes["content"] in features[modality]) != ((modality, hashes["content"]) in failed)


def test_vectors_are_finite_float16_of_the_encoders_length(night: Night):
    dims = {"text": 384, "tags": 128, "style": 16}
    for modality, vectors in night.chain.features().items():
        arrays = [np.frombuffer(vector, "<f2") for vector in vectors.values()]
        assert all(np.isfinite(array).all() for array in arrays)
        assert len({len(array) for array in arrays}) == 1
        if modality in dims:
            assert len(arrays[0]) == dims[modality]


def test_no_user_is_recommended_what_they_have_seen_and_ranks_count_from_one(night: Night):
    seen = defaultdict(set)
    for row in night.chain.table("interactions"):
        if row["split"] != "test":
            seen[row["user_id"]].add(row["item_id"])
    lists = defaultdict(list)
    for row in night.chain.table("recommendations"):
        assert row["item_id"] not in seen[row["user_id"]]
        lists[row["user_id"]].append((row["rank"], row["score"], row["item_id"]))
    users = pq.read_table(night.chain.root / "users.parquet").column("user_id").to_pylist()
    assert sorted(lists) == sorted(users)  # users without any interaction too
    items = len(night.chain.table("catalog"))
    for user, rows in lists.items():
        assert len(rows) == min(20, items - len(seen[user]))  # short only where nothing is left
        rows.sort()
        assert [rank for rank, _, _ in rows] == list(range(1, len(rows) + 1))
        assert [score for _, score, _ in rows] == sorted((score for _, score, _ in rows), reverse=True)
        assert len({item for _, _, item in rows}) == len(rows)


def test_reasons_name_only_modalities_that_the_item_has(night: Night):
    has = {row["item_id"]: {modality for modality, _ in row["hashes"]} for row in night.chain.table("catalog")}
    explained = [row for row in night.chain.table("recommendations") if row["reasons"]]
    assert {row["rank"] for row in explained} == set(range(1, 11))
    for row in explained:
        assert {name for name, _ in row["reasons"]} <= has[row["item_id"]] | {"behaviour", "similar_items"}


def test_a_reason_names_past_items_of_the_user_nearest_first_where_there_are_any(night: Night):
    past = defaultdict(set)
    for row in night.chain.table("interactions"):
        if row["split"] == "train":
            past[row["user_id"]].add(row["item_id"])
    for row in night.chain.table("recommendations"):
        named = [entry["item_id"] for entry in row["because"]]
        assert len(named) == (min(3, len(past[row["user_id"]])) if row["rank"] <= 10 else 0)
        assert set(named) <= past[row["user_id"]]
        cosines = [entry["cosine"] for entry in row["because"]]
        assert cosines == sorted(cosines, reverse=True)
        assert all(abs(cosine) <= 1 + 1e-5 for cosine in cosines)


def test_the_model_learns_something_and_its_metrics_are_recorded(night: Night):
    metrics = night.result["metrics"]
    assert metrics["train.epochs"] >= 1
    assert 0 < metrics["evaluate.ndcg@20"] <= 1
    table = {(row["metric"], row["k"], row["slice"]): row["value"] for row in night.chain.table("metrics")}
    assert table["ndcg", 20, "all"] == metrics["evaluate.ndcg@20"]
    assert any(name[2].startswith("items by warmth") for name in table)


def test_the_report_is_one_file_with_pictures_and_no_raw_user_id(night: Night):
    page = (night.folder / "report.html").read_text(encoding="utf-8")
    assert "data:image/" in page
    assert "Because you took " in page
    assert not re.search(r"(src|href)=[\"']https?:", page)
    assert not re.search(r"\bu\d{4}\b", page)
    for reason in ("too_many_pixels", "wrong_format", "duplicate_id"):
        assert reason in page


def test_the_report_maps_the_items_by_category_and_lets_texts_find_pictures(night: Night):
    page = (night.folder / "report.html").read_text(encoding="utf-8")
    items = len(night.chain.table("item_index"))
    assert len(re.findall(r'<li class="c\d+ \w+" style="left:[\d.]+%;top:[\d.]+%"', page)) == items
    assert "Coloured by <code>category</code>" in page
    assert page.count("data:image/webp;base64,") > items / 2
    assert page.count('<article class="user find">') == 6
    assert page.count("its own</span>") == 6  # among the found, or beside them
    recalls = {name: value for name, value in night.result["metrics"].items() if ".retrieval." in name}
    assert set(recalls) == {
        f"evaluate.retrieval.{arrow}@{k}" for arrow in ("text_image", "image_text") for k in (1, 5, 10)
    }
    assert 0 < recalls["evaluate.retrieval.text_image@10"] <= 1
    assert len(page.encode()) < 3_000_000


def test_no_user_id_reaches_the_log_or_the_run_record(night: Night):
    folder = night.folder
    for path in [folder / "log.jsonl", folder / "run_result.json", folder / "config.yaml", folder / "training.jsonl"]:
        assert not re.search(r"\bu\d{4}\b", path.read_text(encoding="utf-8")), path


def test_the_same_night_again_does_nothing_and_says_so(night: Night):
    before = {name: night.chain.table(name) for name in ("catalog", "recommendations", "quarantine", "metrics")}
    again = night.chain.run()
    assert (again["status"], again["exit_code"]) == ("noop", 0)
    assert stage(again, "embed")["rows_out"] == 0
    assert any("0 contents to encode" in line for line in night.chain.said)
    assert {name: night.chain.table(name) for name in before} == before


@pytest.mark.parametrize("name", ["items", "sequences"])
def test_tensors_are_real_petastorm_datasets(night: Night, name: str):
    sets = list((night.chain.workspace / "tensors").glob(f"*/{name}/_common_metadata"))
    assert len(sets) == 1
    keys = pq.read_schema(sets[0]).metadata
    assert any(key.startswith(b"dataset-toolkit.unischema") for key in keys)
