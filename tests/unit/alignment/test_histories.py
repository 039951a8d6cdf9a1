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
