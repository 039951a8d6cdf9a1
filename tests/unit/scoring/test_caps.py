"""At most n of a category: what greedy selection down the whole ranking gives, however deep it must look."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crossweave.scoring.caps import Cap, Room, capped
from crossweave.scoring.topk import PAD, TopK


def ranker(scores_UN, depths=None):
    """Rank by plain sorting; ties by the smaller index, -inf is not a candidate."""

    def rank(users, depth):
        if depths is not None:
            depths.append((len(users), depth))
        order = np.argsort(-scores_UN[users], axis=1, kind="stable")[:, :depth]
        scores = np.take_along_axis(scores_UN[users], order, 1)
        return TopK(np.where(np.isneginf(scores), PAD, order), scores)

    return rank


def oracle(scores_N, caps, k):
    """Walk the whole ranking and count by hand."""
    counts, chosen = {}, []
    for item in sorted(range(len(scores_N)), key=lambda i: (-scores_N[i], i)):
        keys = [(cap.name, value) for cap in caps for value in cap.values(item)]
        limits = {cap.name: cap.most for cap in caps}
        if len(chosen) < k and not np.isneginf(scores_N[item]) and all(counts.get(x, 0) < limits[x[0]] for x in keys):
            chosen.append(item)
            for key in keys:
                counts[key] = counts.get(key, 0) + 1
    return chosen + [PAD] * (k - len(chosen))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_equals_a_walk_down_the_whole_ranking(data):
    users, items, k = (data.draw(st.integers(1, n)) for n in (4, 60, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    scores = rng.integers(-9, 9, (users, items)).astype(np.float32)  # with ties
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    values = [[str(v) for v in set(rng.integers(0, 4, rng.integers(0, 3)).tolist())] for _ in range(items)]
    brands = [[str(rng.integers(0, 3))] for _ in range(items)]
    caps = [Cap.from_lists("tags", data.draw(st.integers(1, 3)), values), Cap.from_lists("brand", 2, brands)]
    caps = caps[: data.draw(st.integers(1, 2))]
    got = capped(ranker(scores), users, items, k, caps)
    assert got.items_UK.tolist() == [oracle(row, caps, k) for row in scores]
    for user in range(users):
        found = got.items_UK[user][got.items_UK[user] != PAD]
        np.testing.assert_array_equal(got.scores_UK[user, : len(found)], scores[user, found])


def test_only_users_whose_list_is_not_full_are_ranked_deeper_and_never_more_cells_than_at_first():
    items, k = 1000, 5
    cap = Cap.from_lists("brand", 1, [["big"] if item < 900 else [str(item)] for item in range(items)])
    scores = np.tile(np.arange(items, 0, -1, dtype=np.float32), (8, 1))
    scores[4:] = scores[4:, ::-1]  # these meet the small brands first
    depths = []
    got = capped(ranker(scores, depths), 8, items, k, [cap])
    assert got.items_UK[0].tolist() == [0, 900, 901, 902, 903]
    assert got.items_UK[7].tolist() == [999, 998, 997, 996, 995]
    assert depths[0] == (8, 10)
    assert sum(users for users, _ in depths[1:]) == 4 * 4  # 40, 160, 640, 1000
    assert max(users * depth for users, depth in depths) <= 1000


def test_an_item_without_a_value_is_never_capped_and_one_with_several_needs_room_for_all():
    cap = Cap.from_lists("tags", 1, [["a"], ["a", "b"], [], [], ["b"]])
    got = capped(ranker(np.array([[5, 4, 3, 2, 1]], np.float32)), 1, 5, 5, [cap])
    assert got.items_UK.tolist() == [[0, 2, 3, 4, PAD]]


def test_room_knows_what_is_full_and_which_items_that_touches():
    cap = Cap.from_lists("tags", 1, [["a"], ["a", "b"], [], ["c"]])
    room = Room([cap], [0])
    assert [room.fits(item) for item in range(4)] == [False, False, True, True]
    assert cap.touched(room.full()[0]).tolist() == [True, True, False, False]
