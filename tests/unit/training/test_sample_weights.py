"""What a positive counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crossweave.errors import SettingsError
from crossweave.feeding.interactions import read_interactions
from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import load_manifest
from crossweave.feeding.sequences import read_all
from crossweave.training.batches import BatchMaker
from crossweave.training.collective import run_ranks
from crossweave.training.sample_weights import SampleWeights, WeightScale, weight_scale

POPULARITY = np.array([1, 4, 16, 0], np.float32)


def test_by_default_a_positive_counts_one():
    counts = SampleWeights(POPULARITY, 0.0, False, WeightScale()).of(np.array([0, 2]), np.array([5.0, -1.0]))
    assert counts.dtype == np.float32
    assert counts.tolist() == [1.0, 1.0]


def test_balance_lets_popular_items_count_less_with_mean_one_over_all_interactions():
    every = np.repeat(np.arange(4), POPULARITY.astype(int))
    half = SampleWeights(POPULARITY, 0.5, False, WeightScale()).of(every, np.ones(21))
    # 1, ½ and ¼ of what the rare item counts: (1 + 4·½ + 16·¼) c = 21.
    assert half[[0, 1, 5]].tolist() == pytest.approx([3.0, 1.5, 0.75])
    assert half.mean() == pytest.approx(1.0)
    whole = SampleWeights(POPULARITY, 1.0, False, WeightScale()).of(every, np.ones(21))
    assert [whole[every == item].sum() for item in range(3)] == pytest.approx([7.0, 7.0, 7.0])


def test_weights_scale_a_positive_and_one_of_zero_stays_a_positive():
    counts = SampleWeights(POPULARITY, 0.0, True, WeightScale(4.0, 1.0)).of(np.array([0, 1, 2]), np.array([2.0, 8, 0]))
    assert counts[:2].tolist() == [0.5, 2.0]
    assert 0.0 < counts[2] < 1e-5


def test_weights_without_a_positive_mean_are_refused():
    with pytest.raises(SettingsError, match="positive mean"):
        SampleWeights(POPULARITY, 0.0, True, WeightScale(0.0, 1.0))


def test_standardised_weights_of_equal_ones_are_zero():
    assert WeightScale(3.0, 2.0).standardise(np.array([5.0, 3.0])).tolist() == [1.0, 0.0]
    assert WeightScale(1.0, 0.0).standardise(np.array([1.0, 1.0])).tolist() == [0.0, 0.0]


@pytest.mark.slow
def test_every_rank_knows_the_same_scale_of_all_weights(training_plan, tmp_path: Path):
    plan = training_plan(model__losses={"sampled_softmax": 1.0, "rating": 0.1})
    assert plan.reads_weights
    manifest = load_manifest(plan.tensors)
    assert manifest is not None

    def work(given, collective):
        mine = weight_scale(manifest, collective)
        both = collective.sum(np.array([mine.mean, mine.deviation]) * (collective.rank == 1), "from the second rank")
        return mine, both.tolist()

    first, second = run_ranks(work, plan, 2, 120, tmp_path / "ranks", loopback=True)
    every = np.concatenate([row for rows in read_all(manifest, 0, 1) for row in rows.weights])
    assert len(every) == read_interactions(manifest).seen_UN.nnz
    assert every.std() > 0.1  # the shop rates
    assert [first.mean, first.deviation] == second == pytest.approx([every.mean(), every.std()], rel=1e-5)


def test_a_batch_carries_what_its_targets_count_and_how_they_were_rated(training_plan):
    plan = training_plan(train__weight_by="weight", train__negatives=10, train__negative_power=0.75)
    manifest = load_manifest(plan.tensors)
    assert manifest is not None
    rows = next(read_all(manifest, 0, 1))
    batch = BatchMaker(open_items(manifest), plan, WeightScale(3.0, 2.0)).make(rows, seed=4)
    index_C = batch.items.index_S[batch.candidates_C]
    weight_of = [
        dict(zip(items, weights, strict=True)) for items, weights in zip(rows.items, rows.weights, strict=True)
    ]
    users, columns = (values.tolist() for values in batch.taken)
    given = np.array([weight_of[user][int(index_C[column])] for user, column in zip(users, columns, strict=True)])
    assert len(set(given.tolist())) > 1
    np.testing.assert_allclose(batch.rating_T, (given - 3.0) / 2.0, rtol=1e-6)
    np.testing.assert_allclose(batch.positives_BC[batch.taken], given / 3.0, rtol=1e-6)
    assert int((batch.positives_BC > 0).sum()) == len(users)
    assert (batch.log_inclusion_C <= 0).all()
    assert (batch.log_inclusion_C < 0).any()
