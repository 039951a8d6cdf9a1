"""The towers as ONNX graphs: onnxruntime says what torch says, for any number of items and any history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crossweave.alignment import FUSIONS, HEADS, USER_TOWERS, find
from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.onnx import ItemTower, UserTower, item_inputs, save_towers, user_inputs
from crossweave.alignment.spec import ModelSpec
from crossweave.alignment.towers.sequence import SequenceTower
from crossweave.errors import SettingsError

pytest.importorskip("onnx", reason="onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def build(fusion: str = "attention", tower: str = "history_attention", head: str = "dot") -> AlignmentModel:
    torch.manual_seed(0)
    spec = ModelSpec(
        {"text": 5, "image": 7}, 9, 8, fusion, tower, {"bpr": 1.0}, 8, True, 0.1, 0.1,
        head=head, user_attributes={"age": 3, "city": 2}, users=4, user_id=True,
    )  # fmt: skip
    model = AlignmentModel(spec).eval()
    with torch.no_grad():  # some parts start at zero, and would hide a fault
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def run(path: Path, given: dict[str, torch.Tensor]) -> list[Any]:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = [each.name for each in session.get_inputs()]
    return session.run(None, {name: given[name].numpy() for name in wanted})


def check(model: AlignmentModel, folder: Path) -> None:
    item_path, user_path = save_towers(model, folder)
    for count in (1, 6):
        given = item_inputs(model, count)
        given["present"][0, 0] = False
        given["known"][-1] = False
        for mine, theirs in zip(ItemTower(model)(*given.values()), run(item_path, given), strict=True):
            np.testing.assert_allclose(theirs, mine.detach().numpy(), atol=2e-6)
    for length in (0, 1, 7):
        given = user_inputs(model, length) | {
            "attributes": torch.tensor([2, 1]),
            "index": torch.tensor([min(length, 4) - 1]),
        }
        (theirs,) = run(user_path, given)
        np.testing.assert_allclose(theirs, UserTower(model)(*given.values()).detach().numpy(), atol=2e-6)


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_every_fusion_is_exported(fusion: str, tmp_path: Path) -> None:
    check(build(fusion=fusion), tmp_path)


@pytest.mark.parametrize("tower", sorted(USER_TOWERS))
def test_a_tower_is_exported_or_refused_by_name(tower: str, tmp_path: Path) -> None:
    model = build(tower=tower)
    if model.is_product and not issubclass(find(USER_TOWERS, "user tower", tower), SequenceTower):
        check(model, tmp_path)
        return
    with pytest.raises(SettingsError, match=tower):
        save_towers(model, tmp_path)


@pytest.mark.parametrize("head", sorted(HEADS))
def test_a_head_is_exported_or_refused_by_name(head: str, tmp_path: Path) -> None:
    model = build(head=head)
    if model.is_product:
        check(model, tmp_path)
        return
    with pytest.raises(SettingsError, match=head):
        save_towers(model, tmp_path)


def test_a_user_of_the_graph_is_the_user_of_the_model(tmp_path: Path) -> None:
    """The row that stands before the history changes nothing."""
    from crossweave.alignment.histories import Histories
    from crossweave.alignment.user_parts import UserBatch

    model = build()
    given = user_inputs(model, 4)
    histories = Histories.from_lists([np.arange(4)])
    who = UserBatch(given["index"], given["attributes"][None])
    direct = model.users(given["history"], histories, who).vector_BE[0]
    torch.testing.assert_close(UserTower(model)(*given.values()), direct)
