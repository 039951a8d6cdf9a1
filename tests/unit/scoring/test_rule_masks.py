"""What the rules leave to whom, what they are blamed for, and what freshness adds."""

import dataclasses

import numpy as np
import pytest

from crossweave.scoring.caps import Cap
from crossweave.scoring.rules import ItemRules, freshness_boost, reasons_for_short_list

RULES = ItemRules(
    names=("removed", "available"),
    hidden_N=np.array([0, 1, 2, 3, 0, 0], np.uint32),
    segments=("children", "locals"),
    open_SN=np.array([[1, 1, 1, 1, 0, 1], [1, 1, 1, 1, 1, 0]], bool),
    caps=(Cap.from_lists("brand", 1, [["a"], [], [], [], ["a"], ["b"]]),),
    boost_N=np.arange(6, dtype=np.float32),
)


@pytest.mark.parametrize(("segments", "allowed"), [(0, [0, 4, 5]), (1, [0, 5]), (2, [0, 4]), (3, [0])])
def test_an_item_must_pass_every_rule_and_those_of_the_users_segments(segments, allowed):
    assert np.flatnonzero(RULES.allowed(segments)).tolist() == allowed


def test_rules_that_were_saved_are_read_back_and_have_the_same_fingerprint(tmp_path):
    RULES.save(tmp_path / "rules.npz")
    read = ItemRules.load(tmp_path / "rules.npz")
    assert (read.names, read.segments, [c.name for c in read.caps]) == (RULES.names, RULES.segments, ["brand"])
    assert read.fingerprint == RULES.fingerprint
    np.testing.assert_array_equal(read.boost_N, RULES.boost_N)
    assert read.caps[0].values(4) == RULES.caps[0].values(4)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_N": np.array([0, 1, 2, 3, 0, 1], np.uint32)},
        {"open_SN": np.ones((2, 6), bool)},
        {"caps": (Cap.from_lists("brand", 2, [["a"], [], [], [], ["a"], ["b"]]),)},
        {"caps": (Cap.from_lists("brand", 1, [["a"], [], [], [], ["b"], ["b"]]),)},
        {"boost_N": None},
    ],
)
def test_another_rule_is_another_fingerprint(change):
    assert dataclasses.replace(RULES, **change).fingerprint != RULES.fingerprint


@pytest.mark.parametrize(
    ("segments", "seen", "blocked", "listed", "names"),
    [
        (0, [], [], [0, 5], ["removed", "available", "at_most.brand"]),  # item 4 shares the brand of item 0
        (0, [1, 3], [], [0, 5], ["available", "at_most.brand"]),
        (1, [1, 2, 3], [], [0, 5], ["segments.children"]),
        (2, [1, 2, 3, 4], [0], [], ["segments.locals", "blocks"]),
        (0, [1, 2, 3, 4], [], [0, 5], []),  # nothing is left: no rule is to blame
    ],
)
def test_a_short_list_names_the_rules_that_keep_an_unseen_candidate_out(segments, seen, blocked, listed, names):
    arrays = [np.array(values, np.int64) for values in (seen, blocked, listed)]
    assert reasons_for_short_list(RULES, np.ones(6, bool), segments, *arrays) == names


def test_what_the_model_may_not_recommend_is_no_rules_fault():
    none = np.zeros(0, np.int64)
    assert reasons_for_short_list(RULES, np.array([1, 0, 0, 0, 0, 1], bool), 0, none, none, np.array([0, 5])) == []


def test_freshness_halves_with_the_half_life():
    got = freshness_boost(np.array([0.0, 10.0, 20.0, np.nan, -3.0]), 10.0, 2.0)
    assert got.dtype == np.float32
    assert got.tolist() == [2.0, 1.0, 0.5, 0.0, 2.0]
