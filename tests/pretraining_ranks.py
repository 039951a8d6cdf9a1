"""What ranks of tests learn from, in a module that they can import."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from tiny import WORDS

from crossweave.pretraining.loop import Pretrainer, PretrainOutcome
from crossweave.pretraining.objectives.base import Corpus
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
