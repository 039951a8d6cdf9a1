"""What ranks of tests learn from, in a module that they can import."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tiny import WORDS

from crossweave.alignment import find
from crossweave.pretraining.loop import Pretrainer, PretrainOutcome
from crossweave.pretraining.objectives import OBJECTIVES
from crossweave.pretraining.objectives.base import Corpus
from crossweave.pretraining.objectives.targets import Aimed, TargetObjective
from crossweave.pretraining.plan import PretrainPlan
from crossweave.training.collective import Collective


def share(rank: int, size: int, histories: bool) -> Corpus:
    """Return a rank's share of texts of two themes, or of users who keep to one."""
    draw = np.random.default_rng(0)
    themes = [np.arange(5, 9), np.arange(9, len(WORDS))]
    texts = [np.array([2, *draw.choice(themes[i % 2], 6), 3], np.int32) for i in range(96)]
    users = [draw.choice(np.arange(start, 96, 2), 8, replace=False) for start in (0, 1) * 24]
    kept = [text.tobytes() for text in texts]
    return Corpus(kept, users[rank::size]) if histories else Corpus(kept[rank::size])


def learn(
    plan: PretrainPlan, collective: Collective, stop_at: int | None = None
) -> tuple[PretrainOutcome | None, float]:
    """Learn, or stop before a step; returns how it ended, and how far the ranks' weights are apart."""
    histories = plan.task.objective == "behaviour"
    corpus = share(collective.rank, collective.size, histories)
    held_out = replace(corpus, histories=corpus.histories[:8]) if histories else Corpus(corpus.contents[:16])
    pretrainer = Pretrainer(plan, collective, corpus, held_out)
    outcome, step = None, pretrainer._step

    def until(order: np.ndarray) -> tuple[float, bool]:
        if pretrainer.state.step == stop_at:
            raise KeyboardInterrupt
        return step(order)

    pretrainer._step = until  # type: ignore[method-assign]
    try:
        outcome = pretrainer.run()
    except KeyboardInterrupt:
        collective.wait()
    mine = torch.cat([value.flatten().double() for value in pretrainer.learnable.state_dict().values()]).sum().item()
    mean, square = collective.sum(np.array([mine, mine * mine]), "spread") / collective.size
    return outcome, float(square - mean**2)


def gradient_of(name: str, encoder: Any, contents: list[bytes], collective: Collective) -> np.ndarray:
    """Return the gradient of an objective on a rank's share of contents, averaged over the ranks as Horovod does."""
    kind = find(OBJECTIVES, "objective", name)
    torch.manual_seed(3)
    own = {"modality": "text"} if name == "paired" else {}
    objective = kind(encoder, encoder.network(), kind.Settings(**own), 5)
    objective.gather = collective.gather
    objective.train()
    loss = objective(batch_of(objective, contents, collective.rank, collective.size))
    loss.backward()
    found = torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None]).double().numpy()
    return collective.sum(np.append(found, loss.item()), "gradient") / collective.size


def batch_of(objective: Any, contents: list[bytes], rank: int, size: int) -> Any:
    """Return every `size`-th content: of pairs with a vector beside each, else as two views that no chance decides."""
    mine = contents[rank::size]
    inputs = objective.inputs(mine)
    if isinstance(objective, TargetObjective):
        targets = np.stack([np.frombuffer(data[-20:], np.uint8)[:5] for data in mine]).astype(np.float32) / 255
        return Aimed(inputs, torch.from_numpy(targets))
    return inputs, (inputs[0].flip(-1),)
