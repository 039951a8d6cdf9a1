"""The cold protocol, the caller's id types, and runs at the edge of having no data."""

import shutil

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support import Chain, Night, stage

from crossweave.stages.export import EXPORT
from crossweave.stages.train import TRAIN

pytestmark = pytest.mark.slow


def test_under_the_cold_protocol_only_withheld_items_are_ranked_and_none_was_trained_on(new_chain: Chain):
    result = new_chain.run(split__protocol="cold")
    assert result["status"] == "ok", result["error"]
    cold = {row["item_id"] for row in new_chain.table("catalog") if row["cold"]}
    recommended = {row["item_id"] for row in new_chain.table("recommendations")}
    assert recommended == cold
    reasons = [dict(row["reasons"]) for row in new_chain.table("recommendations") if row["reasons"]]
    assert reasons
    assert all("behaviour" not in given and "similar_items" in given for given in reasons)
    _tensors_that_were_removed_are_built_again_and_the_model_stays(new_chain)
    withheld = sum(row["item_id"] in cold for row in new_chain.table("interactions"))
    assert withheld > 0
    assert stage(result, "tensors")["skipped"] >= withheld
    assert 0 < result["metrics"]["evaluate.ndcg@5"] <= 1


def _tensors_that_were_removed_are_built_again_and_the_model_stays(chain: Chain) -> None:
    """Part of the test above, which has a chain to spare: a second one would take another minute."""
    before = chain.table("recommendations")
    shutil.rmtree(chain.workspace / "tensors")
    result = chain.run(split__protocol="cold")
    assert result["status"] == "ok", result["error"]
    assert stage(result, "tensors")["rows_out"] > 0
    assert stage(result, "train")["rows_out"] == 0
    assert chain.table("recommendations") == before


def test_export_gives_the_callers_own_id_types_and_every_row(night: Night, tmp_path):
    target = tmp_path / "out"
    result = night.chain.run([EXPORT], export__path=str(target))
    assert result["exit_code"] == 0
    table = pq.read_table(target)
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("user_id", "string"),
        ("item_id", "int64"),
        ("rank", "int32"),
        ("score", "float"),
    ]
    want = {(r["user_id"], int(r["item_id"]), r["rank"]) for r in night.chain.table("recommendations")}
    assert set(zip(*(table.column(name).to_pylist() for name in ("user_id", "item_id", "rank")), strict=True)) == want
    again = night.chain.run([EXPORT], export__path=str(target))
    assert again["status"] == "noop"


def test_export_refuses_a_folder_that_holds_something_else(night: Night, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    assert night.chain.attempt([EXPORT], export__path=str(tmp_path / "mine")) == 2
    assert "something that is no export" in night.chain.said[0]
    assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_a_stage_that_misses_the_one_before_it_names_it(new_chain: Chain):
    result = new_chain.run([TRAIN])
    assert (result["exit_code"], result["error"]["type"]) == (2, "SettingsError")
    assert "tensors" in result["error"]["message"]


def test_the_recommendations_are_readable_by_any_delta_reader(night: Night):
    from deltalake import DeltaTable

    table = DeltaTable(str(night.chain.workspace / "tables" / "recommendations"))
    rows = ds.dataset(table.file_uris()).count_rows()
    assert rows == len(night.chain.table("recommendations")) > 0


@pytest.mark.parametrize("name", ["tables", "models", "tensors", "runs", "receipts"])
def test_a_workspace_has_the_documented_folders(night: Night, name: str):
    assert any((night.chain.workspace / name).iterdir())
