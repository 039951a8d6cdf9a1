"""T1: a step of the alignment model on two ranks of one thread each: Horovod as training uses it, torch DDP on Gloo.

Both stand in the same two processes and take the same steps on the same batches from the same weights, in turn. Beside
them two measures without any exchange: both ranks at once, each with a model of its own, and rank 0 while rank 1
sleeps (what one rank does at the same batch a rank). The ranks are started by `horovod.run`, without Spark.
"""

from __future__ import annotations

import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bench
import numpy as np
import tensor_set
import torch
import torch.distributed as dist
from torch import nn

from crossweave.alignment.model import AlignmentModel
from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import load_manifest
from crossweave.training.batches import StepBatch
from crossweave.training.plan import TrainingPlan

RANKS = 2


class Step(nn.Module):
    """The loss of a step as a module, as DDP wants it; it is the training loop's own."""

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self.model = AlignmentModel(trainer.plan.spec)
        self.model.load_state_dict(trainer.model.state_dict())
        self.loop = type(trainer)
        self.rest = {"plan": trainer.plan, "precision": trainer.precision}

    def forward(self, batch: StepBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss and its parts."""
        return self.loop._loss(SimpleNamespace(model=self.model, **self.rest), batch)


class Plain:
    """The loop's step with torch's own means: DDP where `ranks` is above one, else no exchange at all."""

    def __init__(self, trainer: Any, ranks: int) -> None:
        from crossweave.training.loop import _parameter_groups

        self.step = Step(trainer)
        self.model, self.ranks, self.clip = self.step.model, ranks, trainer.plan.clip_norm
        plan = trainer.plan
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.model, plan), lr=plan.learning_rate)
        self.module = nn.parallel.DistributedDataParallel(self.step) if ranks > 1 else self.step

    def take(self, seed: int, batch: StepBatch, rates: list[float]) -> float:
        """Take one step and return the mean loss over the ranks."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.optimizer.zero_grad()
        torch.manual_seed(seed)
        loss, parts = self.module(batch)
        values = torch.tensor([loss.item(), *[part.item() for part in parts.values()]], dtype=torch.float64)
        if self.ranks > 1:
            dist.all_reduce(values)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self.model.constrain()
        return float(values[0]) / self.ranks


def rank_main(plan: TrainingPlan, steps: int, rounds: int, port: int) -> dict[str, Any]:
    """One rank's part: returns the seconds of every side and round by the wall and the CPU, the slower rank's."""
    from crossweave.training.collective import Collective
    from crossweave.training.loop import Trainer

    torch.set_num_threads(1)
    collective = Collective()
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=collective.rank, world_size=RANKS)
    manifest = load_manifest(plan.tensors)
    assert manifest is not None
    if collective.rank == 0:
        open_items(manifest)
    dist.barrier()
    trainer = Trainer(plan, collective, manifest, open_items(manifest))
    peer, alone = Plain(trainer, RANKS), Plain(trainer, 1)
    batches = [next(trainer.feed.read(epoch, 0)) for epoch in range(steps)]  # an epoch's last batch is smaller
    rows = sorted({len(batch.positives_BC) for _, batch in batches})

    def ours() -> list[float]:
        return [trainer._step([one])[0]["loss"] for one in batches]

    def rates() -> list[float]:
        return [group["lr"] for group in trainer.optimizer.param_groups]

    def with_ddp() -> list[float]:
        return [peer.take(seed, batch, rates()) for seed, batch in batches]

    def both_alone() -> list[float]:
        return [alone.take(seed, batch, rates()) for seed, batch in batches]

    def first_alone() -> list[float]:
        return both_alone() if collective.rank == 0 else []

    # One step each from the same weights, at the rate of that step.
    same = trainer._step(batches[:1])[0]["loss"], peer.take(*batches[0], rates())
    sides: dict[str, Callable[[], list[float]]] = {
        "ours": ours,
        "ddp": with_ddp,
        "both alone": both_alone,
        "one alone": first_alone,
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    cpu: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):  # the first is not counted
        order = list(sides.items()) if number % 2 else list(reversed(sides.items()))
        for side, work in order:
            dist.barrier()
            start, busy = time.perf_counter(), time.process_time()
            work()
            taken = torch.tensor([time.perf_counter() - start, time.process_time() - busy])
            dist.all_reduce(taken, dist.ReduceOp.MAX)
            if number:
                times[side].append(float(taken[0]) / steps)
                cpu[side].append(float(taken[1]) / steps)
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    dist.destroy_process_group()
    collective.close()
    return {"times": times, "cpu": cpu, "rows": rows, "parameters": parameters, "losses": same}


def free_port() -> int:
    """A port of the loopback device that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def main() -> None:
    """Start the ranks and keep the medians."""
    words = tensor_set.words(__doc__)
    words.add_argument("--batch", type=int, default=4096, help="users of a step, of all ranks together")
    words.add_argument("--steps", type=int, default=2, help="of one side before the next one's turn")
    words.add_argument("--rounds", type=int, default=9)
    given = words.parse_args()
    import train_ranks  # under its importable name, as the ranks know it

    with tempfile.TemporaryDirectory() as name:
        pairs = [f"train.ranks={RANKS}", f"train.batch_users={given.batch // RANKS}", "train.threads=1"]
        plan = tensor_set.plan_of(given, Path(name), pairs)
        title = tensor_set.what(given, plan)
        arguments = (plan, given.steps, given.rounds, free_port())
        found = tensor_set.run(train_ranks.rank_main, arguments, RANKS, Path(name))
    times = found["times"]
    middle = {side: statistics.median(some) for side, some in times.items()}
    busy = {side: statistics.median(some) for side, some in found["cpu"].items()}

    def ratio(over: str, under: str) -> str:
        """Round by round, since the machine's other work comes and goes."""
        rounds = np.array(times[over]) / np.array(times[under])
        low, high = np.quantile(rounds, [0.25, 0.75])
        least, cpu = min(times[over]) / min(times[under]), busy[over] / busy[under]
        return f"{np.median(rounds):.2f} (quartiles {low:.2f}, {high:.2f}); least times {least:.2f}; CPU time {cpu:.2f}"

    def cost(side: str) -> str:
        return f"{middle[side]:.3f}, {min(times[side]):.3f}, {busy[side]:.3f}"

    rows = " or ".join(f"{count:,}" for count in found["rows"])
    bench.keep(
        "train_ranks",
        f"T1: steps of the alignment model on {RANKS} ranks of one thread, {rows} users a rank; {title}",
        "≥ 0.95× torch DDP on Gloo; ≥ 0.85 weak-scaling efficiency",
        [
            ("ours (Horovod, one fused buffer), s a step: median, least, CPU", cost("ours")),
            ("torch DDP on Gloo, s a step: median, least, CPU", cost("ddp")),
            ("both ranks without exchange, s a step: median, least, CPU", cost("both alone")),
            ("one rank alone at the same batch a rank, s a step: median, least, CPU", cost("one alone")),
            ("speed of ours / DDP", ratio("ddp", "ours")),
            ("efficiency: one rank alone / two ranks, ours", ratio("one alone", "ours")),
            ("efficiency of DDP", ratio("one alone", "ddp")),
            ("of it the exchange: both without / with it, ours", ratio("both alone", "ours")),
            ("of it the machine: one alone / both without exchange", ratio("one alone", "both alone")),
            ("gradients", f"{4 * found['parameters'] / 1e6:.1f} MB a step"),
            ("loss of the first step, ours and DDP", "{:.6f}, {:.6f}".format(*found["losses"])),
            ("counted", f"medians of {given.rounds} alternated rounds of {given.steps} steps, batches made before"),
        ],
    )


if __name__ == "__main__":
    main()
