"""`query`: what a user gets, what is near an item, what a sentence finds."""

from __future__ import annotations

import pytest
import query
from support import Night


def ask(night: Night, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    code = query.main([*night.chain.words(), *words])
    return code, capsys.readouterr().out.splitlines()


def test_a_user_s_list_is_the_one_in_the_table_with_its_reasons(
    night: Night, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = sorted(night.chain.table("recommendations"), key=lambda row: (row["user_id"], row["rank"]))
    user = rows[0]["user_id"]
    want = [row["item_id"] for row in rows if row["user_id"] == user][:5]
    code, lines = ask(night, capsys, "--user", user, "--top", "5")
    assert code == 0
    assert [line.split()[1] for line in lines[1:]] == want
    titles = {row["item_id"]: row["title"] for row in night.chain.table("catalog")}
    assert titles[want[0]] in lines[1]
    assert "ecause you took" in lines[1] or "ostly for" in lines[1]


def test_items_near_an_item_leave_itself_out(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    item = night.chain.table("recommendations")[0]["item_id"]
    code, lines = ask(night, capsys, "--item", item)
    assert code == 0
    assert len(lines) == 11
    assert item not in [line.split()[1] for line in lines[1:]]
    scores = [float(line.split()[2]) for line in lines[1:]]
    assert scores == sorted(scores, reverse=True)
    assert 0.0 < scores[0] <= 1.0


def test_an_item_s_own_words_find_it_among_the_first(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = [row for row in night.chain.table("catalog") if row["title"]]
    found = 0
    for row in catalog[:20]:
        code, lines = ask(night, capsys, "--text", row["title"], "--top", "30")
        assert code == 0
        found += row["item_id"] in [line.split()[1] for line in lines[1:]]
    assert found >= 10  # by chance 20 × 30 / items


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--user", "nobody"], "no recommendations for user nobody"),
        (["--item", "nothing"], "no item nothing"),
        (["--text", "a", "--modality", "image"], "no modality image takes a sentence"),
        ([], "exactly one of"),
        (["--user", "a", "--item", "b"], "exactly one of"),
        (["--user", "a", "--top", "none"], "--top expects"),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_sentence(
    night: Night, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code, lines = ask(night, capsys, *words)
    assert code == 2
    assert said in lines[0]


@pytest.mark.parametrize("most", ["0", "-1", "1001", "9" * 5000, "²", "٣", "1e3", "", "ten"])
def test_a_number_of_rows_that_is_none_or_too_large_is_refused(capsys: pytest.CaptureFixture[str], most: str) -> None:
    assert query.main(["--item", "1", f"--top={most}"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("failed (exit 2): --top expects a whole number from 1 to 1,000, got ")
    assert len(lines[0]) < 120
