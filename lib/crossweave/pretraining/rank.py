"""What one rank of a pretraining does: reads its share of the corpus, and learns."""

from __future__ import annotations

import numpy as np

from crossweave.alignment import find
from crossweave.feeding.corpus import CorpusFiles, Rows, read_contents, read_taken
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
    """Return what a rank learns from, and what it judges by: of the contents, or with `histories` of the users.

    Users took any of the contents, so that every rank has all of these.
    """
    if not histories:
        mine = read_contents(corpus, rank, size)
        return _contents(mine, ~mine.held_out_R), _contents(mine, mine.held_out_R)
    contents, users = read_contents(corpus).values, read_taken(corpus, rank, size)
    learned, judged = (
        [users.values[row] for row in np.flatnonzero(wanted_R)] for wanted_R in (~users.held_out_R, users.held_out_R)
    )
    return Corpus(contents, learned), Corpus(contents, judged)


def _contents(rows: Rows, wanted_R: np.ndarray) -> Corpus:
    targets = None if rows.targets is None else rows.targets[wanted_R]
    return Corpus([rows.values[row] for row in np.flatnonzero(wanted_R)], targets=targets)
