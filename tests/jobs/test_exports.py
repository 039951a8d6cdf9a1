"""Every form of export, read back by what other systems read it with, against the model and the tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from support import Night

from crossweave.alignment.histories import Histories
from crossweave.artifacts.model import TrainedModel
from crossweave.artifacts.scored import ScoredVectors
from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import load_manifest
from crossweave.stages.export import EXPORT, EXPORTS
from crossweave.tables.receipts import Receipts


def run(night: Night, folder: Path, what: str, form: str) -> Path:
    result = night.chain.run([EXPORT], export__path=str(folder), export__what=what, export__format=form)
    assert result["exit_code"] == 0, result["error"]
    return folder


@pytest.fixture(scope="module")
def exported(night: Night, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder a form."""
    pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    root = tmp_path_factory.mktemp("exports")
    for what, form in EXPORTS:
        run(night, root / f"{what}-{form}", what, form)
    return root


def trained(night: Night) -> TrainedModel:
    receipts = Receipts(night.chain.workspace)
    return TrainedModel.open(night.chain.workspace / "models" / receipts.required("train").details.folder)


def parquet(folder: Path) -> dict[str, list]:
    return pq.read_table(folder).to_pydict()


def test_vectors_of_users_and_items_give_the_served_scores(night: Night, exported: Path) -> None:
    """Neural score by the exported vectors, plus the blend, is the score in the table."""
    items, users = parquet(exported / "items-parquet"), parquet(exported / "users-parquet")
    assert pq.read_schema(next((exported / "items-parquet").glob("*.parquet"))).field("item_id").type == "int64"
    vector = dict(zip(users["user_id"], map(np.array, users["vector"]), strict=True))
    place = {item: n for n, item in enumerate(items["item_id"])}
    blend, rows = trained(night).blend(), night.chain.table("recommendations")
    history: dict[str, list] = {}
    for event in night.chain.table("interactions"):
        if event["split"] == "train":
            history.setdefault(event["user_id"], []).append(place[int(event["item_id"])])
    assert {row["user_id"] for row in rows} <= vector.keys()
    for row in rows[::97]:
        item = place[int(row["item_id"])]
        neural = vector[row["user_id"]] @ np.array(items["vector"][item]) + items["bias"][item]
        past = np.unique(history.get(row["user_id"], []))
        scores = torch.zeros(1, len(place))
        if (add := blend.additions(Histories.from_lists([past.astype(np.int64)]))) is not None:
            add(scores, 0, len(place))
        assert neural + float(scores[0, item]) == pytest.approx(row["score"], abs=1e-3)


def test_the_faiss_index_finds_what_the_vectors_say(exported: Path) -> None:
    import faiss

    index = faiss.read_index(str(exported / "items-faiss" / "index.faiss"))
    ids = pq.read_table(exported / "items-faiss" / "ids.parquet").column("item_id").to_pylist()
    items, users = parquet(exported / "items-parquet"), parquet(exported / "users-parquet")
    assert ids == items["item_id"]
    queries = np.column_stack([users["vector"][:5], np.ones(5)]).astype(np.float32)
    scores = queries[:, :-1] @ np.array(items["vector"], np.float32).T + np.array(items["bias"], np.float32)
    found, rows = index.search(queries, 3)
    np.testing.assert_allclose(found, -np.sort(-scores, axis=1)[:, :3], rtol=1e-4, atol=1e-4)
    assert [ids[row] for row in rows[:, 0]] == [ids[row] for row in scores.argmax(axis=1)]


def test_onnx_towers_reproduce_the_item_vectors(night: Night, exported: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    folder = exported / "model-onnx"
    receipts = Receipts(night.chain.workspace)
    manifest = load_manifest(night.chain.workspace / "tensors" / receipts.required("tensors").details.folder)
    assert manifest is not None
    tensors = open_items(manifest)
    session = runtime.InferenceSession(str(folder / "item_tower.onnx"), providers=["CPUExecutionProvider"])
    given = {f"vector.{name}": np.asarray(v, np.float32) for name, v in tensors.vectors.items()}
    given |= {
        "present": tensors.present_NM,
        "index": np.arange(tensors.count),
        "known": tensors.popularity_N > 0,
    }
    item, bias, history = session.run(None, {each.name: given[each.name] for each in session.get_inputs()})
    items, served = parquet(exported / "items-parquet"), receipts.required("score").details.scored
    scored = ScoredVectors.open(night.chain.workspace / "scored" / served)
    np.testing.assert_allclose(item, items["vector"], atol=1e-4)
    np.testing.assert_allclose(bias, items["bias"], atol=1e-4)
    np.testing.assert_allclose(history, scored.history_ND, atol=1e-4)


def test_the_model_has_a_card_and_loads_as_safetensors(night: Night, exported: Path) -> None:
    from safetensors.torch import load_file

    folder = exported / "model-safetensors"
    spec = json.loads((folder / "spec.json").read_text())
    state = trained(night).load().state_dict()
    loaded = load_file(folder / "model.safetensors")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    for form in ("safetensors", "onnx"):
        card = (exported / f"model-{form}" / "README.md").read_text()
        assert spec["user_tower"] in card
        assert "{" not in card
    assert "item_tower.onnx" in (exported / "model-onnx" / "README.md").read_text()
    assert "item_tower.onnx" not in (folder / "README.md").read_text()


def test_the_mmrec_layout_numbers_items_and_users_from_zero(night: Night, exported: Path) -> None:
    folder = exported / "features-mmrec"

    def table(name: str) -> list[dict[str, str]]:
        with (folder / name).open(newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t"))

    items, users, events = table("i_id_mapping.csv"), table("u_id_mapping.csv"), table("crossweave.inter")
    for name in ("text", "image"):
        feat = np.load(folder / f"{name}_feat.npy")
        assert feat.shape[0] == len(items)
        assert feat.dtype == np.float32
        present = np.load(folder / f"{name}_present.npy")
        assert np.isfinite(feat).all()
        if not present.all():
            np.testing.assert_allclose(feat[~present][0], feat[present].mean(axis=0), rtol=1e-4, atol=1e-5)
    assert [int(row["itemID"]) for row in items] == list(range(len(items)))
    of_item, of_user = [row["item_id"] for row in items], [row["user_id"] for row in users]
    labels = {"0": "train", "1": "valid", "2": "test"}
    got = {(of_user[int(e["userID"])], of_item[int(e["itemID"])], labels[e["x_label"]]) for e in events}
    want = {(e["user_id"], e["item_id"], e["split"]) for e in night.chain.table("interactions")}
    assert got == want


def test_a_form_that_there_is_not_is_named_with_those_there_are(night: Night, tmp_path: Path) -> None:
    code = night.chain.attempt(
        [EXPORT], export__path=str(tmp_path / "out"), export__what="users", export__format="onnx"
    )
    assert code == 2
    assert "users cannot be exported as onnx" in night.chain.said[0]


def test_an_export_that_is_there_is_not_written_again_and_another_form_replaces_it(
    night: Night, tmp_path: Path
) -> None:
    target = run(night, tmp_path / "out", "items", "parquet")
    again = night.chain.run([EXPORT], export__path=str(target), export__what="items")
    assert again["status"] == "noop"
    run(night, target, "model", "safetensors")
    assert not list(target.glob("*.parquet"))
    assert (target / "model.safetensors").is_file()
