"""Rules over the catalog, from the settings to the lists, against a naive walk down the full ranking."""

from __future__ import annotations

import datetime
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import Chain, Night, stage

from crossweave.stages.ingest import INGEST
from crossweave.stages.score import SCORE

pytestmark = pytest.mark.slow

TWO_STAGES = [INGEST, SCORE]
EVERYTHING = 60  # items of the tiny shop: the full ranking


@pytest.fixture(scope="module")
def full(night: Night, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A copy of the night, scored down to the last item without any rule."""
    chain = night.chain.copy(tmp_path_factory.mktemp("full") / "ws")
    assert chain.run([SCORE], score__top_k=EVERYTHING, score__reasons=0)["exit_code"] == 0
    return chain


@pytest.fixture
def copy(full: Chain, tmp_path: Path) -> Chain:
    """A workspace of the test's own."""
    return full.copy(tmp_path / "ws")


def lists(chain: Chain) -> dict[str, list[tuple[str, float]]]:
    found = defaultdict(list)
    for row in sorted(chain.table("recommendations"), key=lambda row: row["rank"]):
        found[row["user_id"]].append((row["item_id"], row["score"]))
    return found


def attributes(chain: Chain) -> dict[str, dict[str, str]]:
    return {row["item_id"]: dict(row["attributes"]) for row in chain.table("catalog")}


def test_a_list_is_what_a_walk_down_the_full_ranking_under_all_rules_gives(full: Chain, copy: Chain, tmp_path: Path):
    rankings, items = lists(full), attributes(full)
    countries = {r["user_id"]: r["country"] for r in pq.read_table(full.root / "users.parquet").to_pylist()}
    country = Counter(countries.values()).most_common(1)[0][0]
    blocked = {user: {ranking[0][0], ranking[3][0]} for user, ranking in list(rankings.items())[:7]}
    pairs = [(user, int(item)) for user, own in blocked.items() for item in own]
    pairs += [("nobody", 1000), ("u0001", 2**40), (None, 1000)]
    users, ids = zip(*pairs, strict=True)
    table = pa.table({"customer": pa.array(users, pa.string()), "sku": pa.array(ids, pa.int64())})
    pq.write_table(table, tmp_path / "blocks.parquet")
    result = copy.run(
        TWO_STAGES,
        inputs__blocks={"path": str(tmp_path / "blocks.parquet"), "user": "customer", "item": "sku"},
        score__reasons=0,
        score__rules={
            "available": "cast(price as double) < 75 and released <= run_date",
            "block": {"category": ["record"]},
            "segments": {"locals": {"users": f"country = '{country}'", "items": "category != 'mug'"}},
            "at_most": {"category": 3},
        },
    )
    assert result["exit_code"] == 0, result["error"]

    def hides(user: str, item: str) -> set[str]:
        known, local = items[item], countries.get(user) == country
        there = float(known.get("price", "nan")) < 75 and known.get("released", "9") <= "2026-01-02"
        return {
            *([] if there else ["available"]),
            *(["block.category"] if known.get("category") == "record" else []),
            *(["segments.locals"] if local and known.get("category", "mug") == "mug" else []),
            *(["blocks"] if item in blocked.get(user, ()) else []),
        }

    def naive(user: str) -> list[str]:
        taken: Counter[str | None] = Counter()
        chosen = []
        for item, _ in rankings[user]:
            category = items[item].get("category")
            if not hides(user, item) and (category is None or taken[category] < 3):
                taken[category] += 1
                chosen.append(item)
        return chosen[:20]

    got = {user: [item for item, _ in row] for user, row in lists(copy).items()}
    assert got == {user: wanted for user in rankings if (wanted := naive(user))}
    assert stage(result, "ingest")["quarantined"]["unknown_user"] == 1
    refused = [r for r in copy.table("quarantine") if r["entity"] == "block"]
    assert Counter(r["reason"] for r in refused) == {"unknown_user": 1, "unknown_item": 1, "null_id": 1}
    metrics = result["metrics"]
    assert metrics["ingest.blocks.rows_in"] == metrics["ingest.blocks.rows_out"] + 3 == len(pairs)
    assert metrics["score.rules.blocks.pairs"] == len(pairs) - 3
    assert metrics["score.rules.block.category.items"] == sum(a.get("category") == "record" for a in items.values())
    mugs = sum(a.get("category", "mug") == "mug" for a in items.values())  # a condition that is null does not hold
    assert metrics["score.rules.segments.locals.items"] == mugs
    short = {user: got.get(user, []) for user in rankings if len(got.get(user, [])) < 20}
    assert metrics["score.users_short_list"] + metrics["score.users_without_candidates"] == len(short) > 0
    kept_out = {user: {item for item, _ in rankings[user]} - set(row) for user, row in short.items()}
    for rule in ("available", "block.category", "segments.locals", "blocks"):
        wanted = sum(any(rule in hides(user, item) for item in left) for user, left in kept_out.items())
        assert metrics[f"score.rules.{rule}.users_short"] == wanted > 0
    capped = sum(any(not hides(user, item) for item in left) for user, left in kept_out.items())
    assert metrics["score.rules.at_most.category.users_short"] == capped > 0


def test_an_allowed_list_hides_items_without_a_value_and_a_user_with_nothing_left_is_counted(copy: Chain):
    result = copy.run(
        [SCORE], score__reasons=0, score__rules={"allow": {"category": ["lamp"]}, "block": {"cold": [True]}}
    )
    items = {row["item_id"]: row for row in copy.table("catalog")}
    found = {item for row in lists(copy).values() for item, _ in row}
    lamps = {i for i, row in items.items() if dict(row["attributes"]).get("category") == "lamp" and not row["cold"]}
    assert found == lamps
    metrics = result["metrics"]
    assert metrics["score.users.rows_out"] + metrics["score.users_without_candidates"] == metrics["score.users.rows_in"]
    assert metrics["score.rules.allow.category.users_short"] == metrics["score.users.rows_in"]
    assert metrics["score.rules.block.cold.items"] == sum(row["cold"] for row in items.values())


def test_freshness_is_added_to_the_score_and_named_as_a_share(full: Chain, copy: Chain):
    rankings, items = lists(full), attributes(full)
    rule = {"freshness": {"column": "released", "half_life_days": 2000.0, "weight": 2.0}}
    assert copy.run([SCORE], score__rules=rule)["exit_code"] == 0
    night = datetime.date(2026, 1, 2)
    boost = {}
    for item, known in items.items():
        age = (night - datetime.date(int(known["released"]), 1, 1)).days if "released" in known else None
        boost[item] = 0.0 if age is None else 2.0 * 2 ** (-max(age, 0) / 2000.0)
    assert len(set(boost.values())) > 10
    got = lists(copy)
    for user, ranking in rankings.items():
        wanted = sorted(((score + boost[item], item) for item, score in ranking), reverse=True)[:20]
        assert [score for _, score in got[user]] == pytest.approx([score for score, _ in wanted], abs=1e-4)
    for row in copy.table("recommendations"):
        if row["rank"] <= 10:
            share = dict(row["reasons"]).get("freshness", 0.0)
            assert share == pytest.approx(boost[row["item_id"]], abs=1e-4)


def test_an_item_that_left_the_catalog_after_the_training_is_not_recommended(full: Chain, copy: Chain, tmp_path: Path):
    root = tmp_path / "shop"
    shutil.copytree(full.root, root)
    gone = next(iter(lists(full).values()))[0][0]
    items = pq.read_table(root / "items.parquet")
    keep = pa.array([str(item) != gone for item in items.column("item_id").to_pylist()])
    pq.write_table(items.filter(keep), root / "items.parquet")
    copy.root = root
    result = copy.run(TWO_STAGES, score__reasons=0)
    assert result["exit_code"] == 0, result["error"]
    assert gone not in {item for row in lists(copy).values() for item, _ in row}
    assert result["metrics"]["score.rules.removed.items"] == 1


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"available": "price >"}, "score.rules.available is no expression"),
        ({"available": "stock > 0"}, "score.rules.available is no expression"),
        ({"available": "price"}, "score.rules.available should be true or false, it is string"),
        ({"available": "released < current_date()"}, "score.rules.available is another value each time"),
        ({"available": "max(price) > 1"}, "score.rules.available"),
        ({"allow": {"brand": ["x"]}}, "score.rules.allow.brand names a column that the catalog lacks"),
        ({"at_most": {"brand": 2}}, "score.rules.at_most.brand names a column"),
        ({"freshness": {"column": "made", "weight": 1.0}}, "score.rules.freshness.column names a column"),
        ({"segments": {"kids": {"users": "age > 3", "items": "true"}}}, "score.rules.segments.kids.users is no expr"),
        ({"segments": {"kids": {"users": "true", "items": "age > 3"}}}, "score.rules.segments.kids.items is no expr"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused_by_its_name(night: Night, rules, named: str):
    assert night.chain.attempt([SCORE], score__rules=rules) == 2
    assert f"failed (exit 2): {named}" in "\n".join(night.chain.said)
