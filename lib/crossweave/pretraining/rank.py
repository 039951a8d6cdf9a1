"""What one rank of a pretraining does: reads its share of the corpus, and learns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crossweave.alignment import find
from crossweave.feeding.corpus import CorpusFiles, Rows, read_taken, read_texts
from crossweave.pretraining.loop import Pretrainer, PretrainOutcome
from crossweave.pretraining.objectives import OBJECTIVES
from crossweave.pretraining.objectives.base import Corpus
from crossweave.pretraining.plan import PretrainPlan
from crossweave.training.collective import Collective


def pretrain(plan: PretrainPlan, collective: Collective) -> PretrainOutcome:
    """Learn from this rank's share."""
    assert plan.corpus is not None
    histories = find(OBJECTIVES, "objective", plan.task.objective).reads_histories
    corpus, held_out = read_shares(plan.corpus, histories, collective.rank, collective.size)
    return Pretrainer(plan, collective, corpus, held_out).run()


def read_shares(corpus: CorpusFiles, histories: bool, rank: int, size: int) -> tuple[Corpus, Corpus]:
    """Return what a rank learns from, and what it judges by: of the texts, or with `histories` of the users.

    Users took any of the texts, so that every rank has all of these.
    """
    if not histories:
        mine = read_texts(corpus, rank, size)
        return Corpus(_where(mine, np.logical_not)), Corpus(_where(mine, np.asarray))
    texts, users = read_texts(corpus).values, read_taken(corpus, rank, size)
    return Corpus(texts, _where(users, np.logical_not)), Corpus(texts, _where(users, np.asarray))


def _where(rows: Rows, wanted: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    return [rows.values[row] for row in np.flatnonzero(wanted(rows.held_out_R))]
