"""Reasons in words."""

import pytest

from crossweave.evaluation.sentences import sentence


@pytest.mark.parametrize(
    ("shares", "titles", "said"),
    [
        (
            {"text": 0.4, "image": 0.5, "tags": 0.3},
            ["A", "B", "C"],
            "Because you took A and B; mostly for its image and text.",
        ),
        ({"text": 0.9, "image": 0.5}, ["A", "A"], "Because you took A; mostly for its text."),
        (
            {"behaviour": 0.5, "text": 0.6, "image": 0.2},
            [],
            "Mostly for its text and what others with your taste took.",
        ),
        ({"similar_items": 0.5, "text": -2.0}, [], "Mostly for what others took who like such items."),
        ({"freshness": 3.0, "main_image": 1.0}, ["A"], "Because you took A; mostly for being new."),
        ({"text": -0.1}, ["A", "B"], "Because you took A and B."),
        ({}, [], ""),
    ],
)
def test_a_sentence_names_the_nearest_past_items_and_the_largest_shares(shares, titles, said):
    assert sentence(shares, titles) == said
