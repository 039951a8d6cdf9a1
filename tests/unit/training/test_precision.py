"""Half precision where it is asked for, float32 everywhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crossweave.alignment.histories import Histories
from crossweave.errors import SettingsError
from crossweave.training.collective import run_ranks
from crossweave.training.device import choose_device, move, widen
from crossweave.training.loop import train
from crossweave.training.precision import Precision

CPU = torch.device("cpu")


def test_fp16_and_cuda_are_refused_where_there_is_no_gpu() -> None:
    with pytest.raises(SettingsError, match="fp16 needs a GPU"):
        Precision("fp16", CPU)
    assert choose_device("cpu", 3) == CPU
    if not torch.cuda.is_available():
        assert choose_device("auto", 3) == CPU
        with pytest.raises(SettingsError, match="sees no GPU"):
            choose_device("cuda", 0)


def test_every_tensor_of_a_batch_moves_and_only_half_ones_widen() -> None:
    batch = (Histories(torch.arange(3), torch.zeros(1, dtype=torch.int64)), {"a": torch.ones(2, dtype=torch.bfloat16)})
    there = move(batch, torch.device("meta"))
    assert {there[0].index_F.device.type, there[0].start_B.device.type, there[1]["a"].device.type} == {"meta"}
    wide = widen(batch)
    assert (wide[1]["a"].dtype, wide[0].index_F.dtype) == (torch.float32, torch.int64)


def test_scaled_gradients_have_their_true_size_when_they_are_clipped_and_an_overflow_takes_no_step() -> None:
    precision = Precision("bf16", CPU)
    precision._scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # as of fp16, which a CPU does not offer
    model = torch.nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    torch.nn.init.zeros_(model.weight)
    precision.backward(model(torch.tensor([[3.0, 4.0]])).sum())
    assert model.weight.grad is not None
    assert model.weight.grad.norm().item() == 5.0 * 1024.0
    assert precision.clip(optimizer, model, 1.0) == pytest.approx(5.0)
    precision.step(optimizer)
    torch.testing.assert_close(model.weight.data, torch.tensor([[-0.6, -0.8]]))
    optimizer.zero_grad()
    precision.backward(model(torch.tensor([[3e38, 0.0]])).sum())
    precision.clip(optimizer, model, 1.0)
    precision.step(optimizer)
    torch.testing.assert_close(model.weight.data, torch.tensor([[-0.6, -0.8]]))
    again = Precision("bf16", CPU)
    again._scaler = torch.amp.GradScaler("cpu")
    again.restore(precision.state())
    assert again.state()["scale"] == 512.0


@pytest.mark.slow
def test_bf16_trains_and_leaves_float32_weights(training_plan, tmp_path: Path) -> None:
    ends = {}
    for precision in ("float32", "bf16"):
        chosen = training_plan(train__precision=precision, model__user_tower="gru", model__fusion="transformer")
        chosen = replace(chosen, folder=tmp_path / precision)
        outcome = run_ranks(train, chosen, chosen.ranks, 120, chosen.folder.local / "ranks", loopback=True)
        losses = [loss for _, loss in outcome.curves["loss"]]
        assert losses[-1] < losses[0]
        ends[precision] = losses[-1]
        stored = load_file(chosen.folder / "model.safetensors")
        assert {value.dtype for value in stored.values()} == {torch.float32}
    assert ends["bf16"] != ends["float32"]
    assert ends["bf16"] == pytest.approx(ends["float32"], rel=0.05)
