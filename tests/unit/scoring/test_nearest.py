"""The nearest items of a history, on vectors whose neighbours are known."""

import numpy as np
import torch

from crossweave.alignment.histories import Histories
from crossweave.scoring.nearest import NONE, nearest_in_history

ITEMS = torch.tensor([[3.0, 1.0], [1.0, 3.0], [9.0, 1.0], [1.0, 1.0], [4.0, 5.0]])  # less the center: →, ↑, →, 0, ↗
CENTER = torch.ones(2)


def nearest(rows, user, item, count=2):
    histories = Histories.from_lists([np.array(row, np.int64) for row in rows])
    return nearest_in_history(ITEMS, CENTER, histories, np.array(user), np.array(item), count)


def test_the_nearest_come_first_by_the_angle_from_the_center():
    items, cosines = nearest([[1, 0, 4], [1]], [0, 1, 0], [2, 2, 1])
    assert items.tolist() == [[0, 4], [1, NONE], [1, 4]]
    np.testing.assert_allclose(cosines, [[1.0, 0.6], [0.0, 0.0], [1.0, 0.8]], atol=1e-6)


def test_of_equally_near_items_the_smaller_index_comes_first_and_an_item_that_was_taken_twice_counts_once():
    items, _ = nearest([[2, 0, 2]], [0], [0])
    assert items.tolist() == [[0, 2]]


def test_a_user_without_history_has_none_and_an_item_at_the_center_is_near_nothing():
    items, cosines = nearest([[], [3]], [0, 1], [0, 0])
    assert items.tolist() == [[NONE, NONE], [3, NONE]]
    assert cosines.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_no_items_wanted_and_no_pairs_are_empty():
    assert nearest([[0]], [0], [1], count=0)[0].shape == (1, 0)
    empty = np.zeros(0, np.int64)
    assert nearest_in_history(ITEMS, CENTER, Histories.from_lists([empty]), empty, empty, 3)[0].shape == (0, 3)
