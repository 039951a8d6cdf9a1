"""Receipts: what the last complete run of a stage read and wrote, published whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossweave.errors import SettingsError, TableError
from crossweave.tables.receipt_details import Feature
from crossweave.tables.receipts import Receipt, Receipts

RECEIPT = Receipt(
    stage="embed",
    fingerprint="ab12",
    run_id="20260301T000000-embed-abcdef",
    reads={"catalog": 3},
    writes={"features/text-ab": 1},
    rows=10,
    details={"text": Feature("features/text-ab", "f", 4)},
)


def test_a_published_receipt_comes_back_equal(tmp_path: Path) -> None:
    Receipts(tmp_path).publish(RECEIPT)
    assert Receipts(tmp_path).latest("embed") == RECEIPT
    assert Receipts(tmp_path).required("embed") == RECEIPT


def test_a_stage_has_one_receipt_the_last_published(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path)
    receipts.publish(RECEIPT)
    newer = Receipt("embed", "cd34", "later", {}, {}, 0, {})
    receipts.publish(newer)
    assert receipts.latest("embed") == newer
    assert receipts.latest("ingest") is None


def test_a_stage_that_never_completed_is_named_with_the_way_to_run_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Receipts(tmp_path).required("ingest")
    assert caught.value.message == "stage ingest has never completed in this workspace"
    assert "./submit.sh ingest" in caught.value.hint


def test_a_torn_receipt_is_refused_by_name(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path)
    receipts.publish(RECEIPT)
    path = tmp_path / "receipts" / "embed.json"
    path.write_bytes(path.read_bytes()[:40])
    for read in (receipts.latest, receipts.required):
        with pytest.raises(TableError, match=r"embed\.json is not readable as JSON"):
            read("embed")


def test_a_table_that_the_stage_did_not_know_yet_is_named_with_what_to_run(tmp_path: Path) -> None:
    Receipts(tmp_path).publish(RECEIPT)
    writes = Receipts(tmp_path).required("embed").writes
    assert writes["features/text-ab"] == 1
    assert writes.get("user_index") is None
    with pytest.raises(SettingsError, match=r"stage embed .* no table user_index"):
        writes["user_index"]
    with pytest.raises(SettingsError, match=r"stage embed .* no table history"):
        Receipts(tmp_path).required("embed").reads["history"]


def test_a_file_where_the_folder_should_be_is_named_and_not_taken_for_a_stage_that_never_ran(tmp_path: Path) -> None:
    (tmp_path / "receipts").touch()
    with pytest.raises(SettingsError, match="receipts is a file where a folder should be"):
        Receipts(tmp_path).required("embed")
