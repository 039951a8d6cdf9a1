"""Slices by the attributes of users and items, from the settings to the table, the record and the report."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import pytest
from support import Chain, Night

from crossweave.stages.evaluate import EVALUATE
from crossweave.tables.receipts import Receipts

pytestmark = pytest.mark.slow


def ndcg_by_user(chain: Chain, k: int) -> dict[str, float]:
    """Compute NDCG of every user with test rows, by loops."""
    relevant, lists = defaultdict(set), defaultdict(dict)
    for row in chain.table("interactions"):
        if row["split"] == "test":
            relevant[row["user_id"]].add(row["item_id"])
    for row in chain.table("recommendations"):
        lists[row["user_id"]][row["rank"]] = row["item_id"]
    found = {}
    for user, wanted in relevant.items():
        gains = [1 / math.log2(r + 1) for r, item in lists[user].items() if r <= k and item in wanted]
        found[user] = sum(gains) / sum(1 / math.log2(r + 1) for r in range(1, min(k, len(wanted)) + 1))
    return found


def figures(chain: Chain) -> dict[tuple[str, int | None, str], tuple[float, int]]:
    return {(r["metric"], r["k"], r["slice"]): (r["value"], r["n"]) for r in chain.table("metrics")}


def test_groups_of_users_are_averaged_and_nobody_is_dropped(night: Night):
    of_user = ndcg_by_user(night.chain, 20)
    country = {row["user_id"]: dict(row["attributes"]).get("country") for row in night.chain.table("users")}
    groups = defaultdict(list)
    for user, value in of_user.items():
        groups[country.get(user) or "(none)"].append(value)
    table = figures(night.chain)
    assert len(groups) > 3
    for name, values in groups.items():
        mean, n = table["ndcg", 20, f"users by country: {name}"]
        assert (mean, n) == (pytest.approx(sum(values) / len(values)), len(values))
    counted = [n for (metric, k, part), (_, n) in table.items() if (metric, k) == ("ndcg", 20) and "by country" in part]
    assert sum(counted) == len(of_user)


def test_exposure_of_categories_adds_up_and_stands_beside_the_catalog(night: Night):
    table, catalog = figures(night.chain), night.chain.table("catalog")
    category = {row["item_id"]: dict(row["attributes"]).get("category", "(none)") for row in catalog}
    exposure: dict[str, float] = defaultdict(float)
    tested = {row["user_id"] for row in night.chain.table("interactions") if row["split"] == "test"}
    for row in night.chain.table("recommendations"):
        if row["user_id"] in tested:
            exposure[category[row["item_id"]]] += 1 / math.log2(row["rank"] + 1)
    total = sum(exposure.values())
    for name in set(category.values()):
        count = sum(value == name for value in category.values())
        value, n = table["exposure", 20, f"exposure by category: {name}"]
        assert (value, n) == (pytest.approx(exposure[name] / total), count)
        assert table["catalog", None, f"exposure by category: {name}"][0] == pytest.approx(count / len(catalog))
    quartiles = {part for _, _, part in table if part.startswith("items by price: ") and " to " in part}
    assert len(quartiles) == 4


def test_items_have_an_age_and_the_report_shows_the_slices(night: Night):
    ages = {part for _, _, part in figures(night.chain) if part.startswith("items by age: ")}
    assert ages
    assert ages <= {f"items by age: {name}" for name in ("up to 7 days", "8–30 days", "31–90 days", "not known")}
    # Not runs/latest: other tests run jobs on the shared night.
    page = Path(Receipts(night.chain.workspace).required("evaluate").details.report).read_text(encoding="utf-8")
    for family in ("users by country", "users by age_group", "items by category", "exposure by price", "items by age"):
        assert family in page.lower()


def test_gaps_are_in_the_record_and_ages_may_count_from_a_column(night: Night, tmp_path: Path):
    chain = night.chain.copy(tmp_path / "ws")
    result = chain.run([EVALUATE], evaluate__min_group=3, evaluate__item_age="released")
    assert result["exit_code"] == 0, result["error"]
    table, metrics = figures(chain), result["metrics"]
    served = {
        part: value
        for (metric, k, part), (value, n) in table.items()
        if (metric, k) == ("ndcg", 20) and part.startswith("users by age_group") and n >= 3
    }
    assert len(served) >= 2
    low, high = min(served.values()), max(served.values())
    assert metrics["evaluate.gap.users.age_group.ndcg@20.difference"] == pytest.approx(high - low)
    assert metrics["evaluate.gap.users.age_group.ndcg@20.ratio"] == pytest.approx(low / high)
    assert 0 <= metrics["evaluate.gap.items.category.exposure_per_relevance@20.ratio"] <= 1
    assert any(part.startswith("gaps between groups: users by age_group, ndcg@20: ") for _, _, part in table)
    assert any(part == "items by age: over a year" for _, _, part in table)


def test_a_slice_by_an_attribute_that_is_not_kept_is_refused(new_chain: Chain):
    assert new_chain.attempt([EVALUATE], evaluate__user_slices=["agegroup"]) == 2
    assert "evaluate.user_slices names 'agegroup', which inputs.users.attributes does not have" in new_chain.said[0]
    assert new_chain.attempt([EVALUATE], evaluate__item_age="born") == 2
    assert "add it to inputs.items.attributes" in " ".join(new_chain.said)
