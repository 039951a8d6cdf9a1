"""InfoNCE over the items of two ranks learns what one process learns that holds all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import cloudpickle
import pytest
import torch

from crossweave.alignment import LOSSES, build
from crossweave.alignment.losses.base import Alone, Peers
from crossweave.training.collective import Collective, run_ranks

WIDTH, DIM, MODALITIES = 5, 4, 3
INDEX = torch.tensor([3, 4, 5, 6, 7, 5, 8, 9])  # items of both ranks; item 5 is on each
CUT = 5  # rows of the first rank; the second has three
MASKS = {
    "uneven": [[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 0]],
    "pairs on one rank only": [[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1], [1, 0, 0], [0, 1, 0], [1, 0, 0]],
    "one of a pair on each rank": [*[[1, 0, 0]] * 4, [1, 1, 0], [1, 1, 0], *[[0, 0, 1]] * 2],
    "nothing shared": [[1, 0, 0]] * 8,
}


class Tower(torch.nn.Module):
    """Unit-norm tokens of every modality, and the loss over them."""

    def __init__(self, peers: Peers) -> None:
        super().__init__()
        torch.manual_seed(9)
        self.project = torch.nn.Linear(WIDTH, MODALITIES * DIM)
        self.loss = build(LOSSES, "loss", "infonce", DIM, MODALITIES, all_ranks=True)
        self.loss.peers = peers
        self.double()

    def forward(self, rows: slice, name: str) -> torch.Tensor:
        present = torch.tensor(MASKS[name])[rows] > 0
        vectors = torch.randn(8, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))[rows]
        tokens = self.project(vectors).unflatten(1, (MODALITIES, DIM))
        tokens = torch.nn.functional.normalize(tokens, dim=2) * present[..., None]
        return self.loss(tokens, present, INDEX[rows])


def gradients(tower: Tower) -> list[list[float]]:
    return [parameter.grad.flatten().tolist() for parameter in tower.parameters() if parameter.grad is not None]


@pytest.mark.slow
def test_two_ranks_get_the_loss_and_gradient_of_one_process_with_all_items(spark, tmp_path: Path):
    def work(plan: None, collective: Collective):
        tower = Tower(collective)
        optimizer = collective.distribute(torch.optim.SGD(tower.parameters(), lr=0.0), tower)
        seen = {}
        for name in MASKS:
            optimizer.zero_grad()
            loss = tower(slice(0, CUT) if collective.rank == 0 else slice(CUT, None), name)
            mean = collective.sum(loss.detach().numpy(), "loss") / collective.size
            loss.backward()
            optimizer.step()  # leaves the average over both ranks in the gradients
            seen[name] = float(mean), gradients(tower)
        return seen

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the ranks do not know this file
    seen = run_ranks(work, None, 2, 120, tmp_path / "ranks", loopback=True)
    for name in MASKS:
        alone = Tower(Alone())
        loss = alone(slice(None), name)
        loss.backward()
        value, got = seen[name]
        assert value == pytest.approx(loss.item(), rel=1e-9), name
        for ours, expected in zip(got, gradients(alone), strict=True):
            assert ours == pytest.approx(expected, rel=1e-7, abs=1e-12), name
    assert seen["uneven"][0] > 0.5
    assert seen["nothing shared"][0] == 0.0
