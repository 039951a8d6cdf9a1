"""Hashed text: what must be equal, what must be close, what must be far."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossweave.encoders import make_encoder
from crossweave.encoders.batching import encode_values


def vectors_of(values: list[Any], kind: str = "text", **options: Any) -> np.ndarray:
    encoder = make_encoder(kind, "hashing", options)
    encoder.load()
    vectors, positions, failures = encode_values(encoder, values)
    assert failures == []
    assert positions == list(range(len(values)))
    return vectors


def test_case_and_compatibility_forms_do_not_count() -> None:
    first, *others = vectors_of(["red shirt", "RED Shirt", "\uff32\uff45\uff44 shirt", "red,  shirt!"])
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_similar_texts_are_closer_than_unrelated_ones() -> None:
    shirt, misspelt, longer, pan = vectors_of(
        ["red cotton shirt", "red coton shirts", "a shirt for men, red, of fine cotton", "stainless steel frying pan"]
    )
    assert shirt @ misspelt > 0.3
    assert shirt @ longer > 0.4
    assert abs(float(shirt @ pan)) < 0.15


def test_a_shared_rare_word_counts_more_than_a_shared_common_one() -> None:
    base, rare, common = vectors_of(["the telescope", "for telescope", "the chair"])
    assert base @ rare > 3 * base @ common


def test_word_order_counts_only_through_word_pairs() -> None:
    apart = vectors_of(["steel blue pan", "blue pan steel"])
    bags = vectors_of(["steel blue pan", "blue pan steel"], word_ngrams=[1, 1])
    assert float(apart[0] @ apart[1]) < 0.97
    np.testing.assert_allclose(bags[0], bags[1], atol=1e-6)


def test_a_tag_is_nearer_to_itself_than_to_its_words() -> None:
    whole, same, word, other = vectors_of([["steel pan"], ["Steel  Pan", None, " "], ["steel"], ["blue"]], "tags")
    np.testing.assert_allclose(whole, same, atol=1e-6)
    assert 0.15 < whole @ word < 0.9
    assert abs(float(whole @ other)) < 0.15


def test_another_process_with_another_hash_seed_gives_the_same_vector() -> None:
    code = (
        "import sys; from crossweave.encoders import make_encoder as m; e = m('text', 'hashing', {'dim': 16}); "
        "e.load(); sys.stdout.write(e.encode(e.prepare(['red shirt']).examples).tobytes().hex())"
    )
    env = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "77"}
    sent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    assert sent == vectors_of(["red shirt"], dim=16)[0].tobytes().hex()


@settings(max_examples=80, deadline=None)
@given(st.text(min_size=1, max_size=60).filter(lambda text: bool(text.strip())))
def test_any_text_with_a_visible_character_has_a_unit_vector(text: str) -> None:
    assert np.linalg.norm(vectors_of([text])[0]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("text", ["\ud800 lone", "日本語のテキスト", "🎉🎉", "!!!", "\u200b", "a" * 200_000])
def test_naughty_texts_are_encoded(text: str) -> None:
    assert np.linalg.norm(vectors_of([text])[0]) == pytest.approx(1, abs=1e-5)


def test_a_text_with_too_few_words_for_any_feature_is_empty() -> None:
    encoder = make_encoder("text", "hashing", {"word_ngrams": [2, 2], "char_ngrams": None})
    assert [failure.reason for failure in encoder.prepare(["one", "one two"]).failures] == ["empty"]
