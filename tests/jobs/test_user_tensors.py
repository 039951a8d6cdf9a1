"""What is known of users beside their histories, from the users table to the lists."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import spearmanr
from support import Night

from crossweave.alignment.histories import Histories
from crossweave.alignment.user_parts import UNKNOWN, UserBatch
from crossweave.artifacts.model import TrainedModel
from crossweave.feeding.items import open_items
from crossweave.feeding.manifest import Manifest, load_manifest
from crossweave.feeding.sequences import read_all
from crossweave.tables.receipts import Receipts
from crossweave.training.item_tower import all_items

ATTRIBUTES = ["age_group", "country"]


@pytest.fixture(scope="module")
def manifest(night: Night) -> Manifest:
    folder = Receipts(night.chain.workspace).required("tensors").details.folder
    found = load_manifest(night.chain.workspace / "tensors" / folder)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def attributes(night: Night) -> dict[str, dict[str, str | None]]:
    rows = pq.read_table(night.chain.root / "users.parquet").to_pylist()
    return {row["user_id"]: {name: row[name] for name in ATTRIBUTES} for row in rows}


def trained_users(night: Night) -> set[str]:
    return {row["user_id"] for row in night.chain.table("interactions") if row["split"] == "train"}


def codes(manifest: Manifest, known: dict[str, str | None]) -> list[int]:
    """Return the codes of a user whose every value has one."""
    return [2 + values.index(str(known[name])) for name, values in manifest.attributes.items()]


def test_every_user_with_a_training_interaction_has_an_index_and_no_other_has(night: Night, manifest: Manifest):
    index = {row["user_id"]: row["user_index"] for row in night.chain.table("user_index")}
    assert sorted(index) == sorted(trained_users(night))
    assert sorted(index.values()) == list(range(manifest.users))


def test_values_stand_by_their_frequency_among_trained_users_and_everybody_is_counted(
    night: Night, manifest: Manifest, attributes
):
    trained = trained_users(night)
    assert list(manifest.attributes) == ATTRIBUTES
    metrics = night.result["metrics"]
    for name, values in manifest.attributes.items():
        counts = Counter(attributes[user][name] for user in trained if user in attributes)
        counts.pop(None, None)
        assert list(values) == sorted(counts, key=lambda value: (-counts[value], value))
        everybody = trained | attributes.keys() | {row["user_id"] for row in night.chain.table("interactions")}
        found = [attributes.get(user, {}).get(name) for user in everybody]
        assert metrics[f"tensors.attributes.{name}.missing"] == sum(value is None for value in found)
        assert metrics[f"tensors.attributes.{name}.other"] == sum(
            value is not None and value not in values for value in found
        )
        assert metrics["tensors.users.rows_in"] == len(everybody)
        assert metrics["tensors.users.rows_out"] == len(trained)


def test_a_training_row_knows_the_attributes_of_its_user(night: Night, manifest: Manifest, attributes):
    names = {row["user_index"]: row["user_id"] for row in night.chain.table("user_index")}
    rows = [pair for group in read_all(manifest, 0, 1) for pair in zip(group.user_R, group.attributes_RA, strict=True)]
    assert len(rows) == manifest.rows("sequences")
    for user, found in rows:
        known = attributes[names[user]]
        if all(value is not None for value in known.values()):
            assert found.tolist() == codes(manifest, known)


def test_a_user_of_the_users_table_alone_gets_the_list_that_their_attributes_say(
    night: Night, manifest: Manifest, attributes
):
    silent = sorted(attributes.keys() - {row["user_id"] for row in night.chain.table("interactions")})
    assert len({tuple(attributes[user].values()) for user in silent}) > 1
    folder: Path = night.chain.workspace / "models" / Receipts(night.chain.workspace).required("train").details.folder
    model = TrainedModel.open(folder).load()
    who = UserBatch.from_arrays(
        np.full(len(silent), UNKNOWN), np.array([codes(manifest, attributes[user]) for user in silent])
    )
    nothing = Histories.from_lists([np.empty(0)] * len(silent))
    with torch.inference_mode():
        made = all_items(model, open_items(manifest))
        scores_UN = model.scores(model.users(made.history_SD, nothing, who), model.targets(made)).numpy()
    place = {row["item_id"]: row["item_index"] for row in night.chain.table("item_index")}
    lists = defaultdict(list)
    for row in sorted(night.chain.table("recommendations"), key=lambda row: row["rank"]):
        lists[row["user_id"]].append((place[row["item_id"]], row["score"]))
    for user, scores_N in zip(silent, scores_UN, strict=True):
        items, given = zip(*lists[user], strict=True)
        np.testing.assert_allclose(scores_N[list(items)], given, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.sort(scores_N)[::-1][: len(given)], given, rtol=1e-4, atol=1e-5)
    firsts = {tuple(attributes[user].values()): lists[user][0] for user in silent}
    assert len({score for _, score in firsts.values()}) == len(firsts)  # the attributes do say something


def test_a_user_of_whom_nothing_is_known_gets_what_is_popular(night: Night, manifest: Manifest):
    folder = night.chain.workspace / "models" / Receipts(night.chain.workspace).required("train").details.folder
    model = TrainedModel.open(folder).load()
    nobody = UserBatch.from_arrays(np.full(1, UNKNOWN), np.zeros((1, len(ATTRIBUTES)), np.int64))
    items = open_items(manifest)
    with torch.inference_mode():
        made = all_items(model, items)
        users = model.users(made.history_SD, Histories.from_lists([np.empty(0)]), nobody)
        scores_N = model.scores(users, model.targets(made)).numpy()[0]
    warm_N = items.popularity_N > 0
    assert spearmanr(scores_N[warm_N], items.popularity_N[warm_N]).statistic > 0.8
    best, popular = (set(np.argsort(-values_N, kind="stable")[:10]) for values_N in (scores_N, items.popularity_N))
    assert len(best & popular) >= 6
