from __future__ import annotations

import numpy as np

from crossweave.alignment.histories import Histories


def test_rows_lie_end_to_end_and_empty_ones_keep_their_place() -> None:
    histories = Histories.from_lists([np.array([4, 2], np.int32), np.array([], np.int32), np.array([7], np.int32)])
    assert histories.index_F.tolist() == [4, 2, 7]
    assert histories.start_B.tolist() == [0, 2, 2]
    assert histories.lengths.tolist() == [2, 0, 1]


def test_no_user_and_only_empty_users_are_defined() -> None:
    assert Histories.from_lists([]).lengths.tolist() == []
    assert Histories.from_lists([np.array([], np.int64)] * 2).lengths.tolist() == [0, 0]


def test_the_newest_items_and_a_part_of_the_users_keep_what_is_theirs() -> None:
    rows = [[5, 6, 7], [], [8], [1, 2, 3, 4], []]
    histories = Histories.from_lists([np.array(row, np.int64) for row in rows])

    def lists(given: Histories) -> list[list[int]]:
        ends = (given.start_B + given.lengths).tolist()
        return [given.index_F[a:b].tolist() for a, b in zip(given.start_B.tolist(), ends, strict=True)]

    assert lists(histories.newest(2)) == [[6, 7], [], [8], [3, 4], []]
    assert lists(histories.newest(9)) == rows
    for start in range(6):
        for stop in range(start, 8):
            assert lists(histories.part(start, stop)) == rows[start:stop]
