"""The two towers as ONNX graphs, for serving without torch.

Shape letters: S items, M modalities, D dim of the model, E dim of the head's product, L items of one history, A user
attributes.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from crossweave.alignment.histories import Histories
from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.towers.sequence import SequenceTower
from crossweave.alignment.user_parts import UNKNOWN, UserBatch
from crossweave.errors import SettingsError

OPSET = 17
ITEM_OUTPUTS = ["item", "bias", "history"]
TRACED = 3  # items and history of the trace; the graph takes any number of them


class ItemTower(nn.Module):
    """Item side of a model: a modality's vectors float32 [S, its dim] each, then present, index and known."""

    def __init__(self, model: AlignmentModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the head's item side [S, E], its bias [S], and what the user tower reads [S, D]."""
        *vectors, present_SM, index_S, known_S = given
        tokens_SMD = self.model.tokens(dict(zip(self.model.spec.modalities, vectors, strict=True)), present_SM)
        made = self.model.assemble(tokens_SMD, present_SM, index_S, known_S)
        targets = self.model.targets(made)
        return targets.item_SE, targets.bias_S, made.history_SD


class OneHistory(Histories):
    """A single history whose length stays a number of the graph: as a Python number a trace would freeze it."""

    @property
    def lengths(self) -> Tensor:
        """The number of its items: int64 [1]."""
        return torch.ones_like(self.index_F).sum()[None]

    def pooled(self, row_SX: Tensor, mode: str) -> Tensor:
        """Return the sum or mean of the history's rows, [1, X]."""
        total_1X = row_SX[self.index_F].sum(dim=0, keepdim=True)
        return total_1X if mode == "sum" else total_1X / self.lengths.clamp(min=1)[:, None]


class UserTower(nn.Module):
    """User side of a model for one user: history, attributes and index."""

    def __init__(self, model: AlignmentModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, history_LD: Tensor, attributes_A: Tensor, index_1: Tensor) -> Tensor:
        """Return the head's user side [E]."""
        # A row that no history names stands first: nothing then is ever empty, whatever the length.
        rows_L = torch.ones_like(history_LD[:, 0], dtype=torch.int64).cumsum(0)
        rows_RD = torch.cat([torch.zeros_like(history_LD[:1].sum(dim=0, keepdim=True)), history_LD])
        histories = OneHistory(rows_L, torch.zeros(1, dtype=torch.int64))
        vector_E: Tensor = self.model.users(rows_RD, histories, UserBatch(index_1, attributes_A[None])).vector_BE[0]
        return vector_E


def item_inputs(model: AlignmentModel, items: int = TRACED) -> dict[str, Tensor]:
    """Return inputs of the item tower by name, of arbitrary items: `vector.MODALITY`, `present`, `index`, `known`."""
    spec = model.spec
    vectors = {f"vector.{name}": torch.randn(items, dim) for name, dim in spec.modalities.items()}
    index_S = torch.arange(items) % max(1, spec.items)
    present_SM = torch.ones(items, len(spec.modalities), dtype=torch.bool)
    return vectors | {"present": present_SM, "index": index_S, "known": torch.ones(items, dtype=torch.bool)}


def user_inputs(model: AlignmentModel, length: int = TRACED) -> dict[str, Tensor]:
    """Return inputs of the user tower by name, of an arbitrary user: `history`, `attributes`, `index`."""
    attributes = torch.zeros(len(model.spec.user_attributes), dtype=torch.int64)
    return {
        "history": torch.randn(length, model.spec.dim),
        "attributes": attributes,
        "index": torch.full((1,), UNKNOWN),
    }


def save_towers(model: AlignmentModel, folder: Path) -> list[Path]:
    """Write item_tower.onnx and user_tower.onnx; the graphs take any number of items and any length of history.

    Raises SettingsError for a model that no pair of vectors scores, for a user tower that walks a sequence step by step
    (a graph holds no such loop), or where the package `onnx` is missing.
    """
    spec = model.spec
    other = "export the model as safetensors, or train with another tower or head"
    if not model.is_product:
        raise SettingsError(f"user tower {spec.user_tower} with head {spec.head} scores pairs, not vectors", other)
    if isinstance(model.user_tower, SequenceTower):
        raise SettingsError(f"user tower {spec.user_tower} reads histories as sequences, which ONNX cannot hold", other)
    if importlib.util.find_spec("onnx") is None:
        raise SettingsError("export.format=onnx needs the package onnx", "pip install onnx onnxruntime")
    items, user = item_inputs(model), user_inputs(model)
    by_item = {name: {0: "items"} for name in (*items, *ITEM_OUTPUTS)}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operator, which ONNX does not have
    try:
        return [
            _save(ItemTower(model).eval(), folder / "item_tower.onnx", items, ITEM_OUTPUTS, by_item),
            _save(UserTower(model).eval(), folder / "user_tower.onnx", user, ["user"], {"history": {0: "length"}}),
        ]
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _save(
    tower: nn.Module, path: Path, given: dict[str, Tensor], outputs: list[str], axes: dict[str, dict[int, str]]
) -> Path:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # that a trace freezes Python numbers: what varies here is none
        torch.onnx.export(
            tower,
            tuple(given.values()),
            str(path),
            input_names=list(given),
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return path
