"""Models that know nothing yet: their words come from the catalog, and the encoder reads them like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crossweave.config.pretraining import FreshText, PretrainSettings
from crossweave.encoders.transformer_text import TransformerEncoder, TransformerSettings
from crossweave.errors import InputContractError
from crossweave.pretraining.fresh import make_fresh_text
from crossweave.pretraining.objectives.base import vocabulary_of

TEXTS = [
    "der rote Topf",
    "赤い 鍋 と 青い 皿",
    "ein blauer Teller \ud800",
    "сковорода и кастрюля",
    "roter Teller 🍳",
] * 4


def encoder_of(folder: Path) -> TransformerEncoder:
    return TransformerEncoder("text", TransformerSettings(path=folder, precision="float32", backend="eager"))


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_fresh_model_encodes_texts_of_any_script_and_is_the_same_from_the_same_texts(family, tmp_path: Path) -> None:
    settings = FreshText(family=family, width=16, layers=1, heads=2, words=400, max_tokens=16)
    words = make_fresh_text(settings, TEXTS, tmp_path / "a", seed=3)
    encoder = encoder_of(tmp_path / "a")
    vocabulary = vocabulary_of(encoder)
    assert vocabulary.size == words
    assert (vocabulary.mask is None) == (family == "gpt2")
    assert (encoder.layout.is_decoder, encoder.layout.max_tokens, encoder.dim) == (family == "gpt2", 16, 16)
    encoder.load()
    prepared = encoder.prepare(["roter Topf", "青い 鍋", "сковорода 🍳" * 50])
    assert not prepared.failures
    assert max(map(len, prepared.examples)) == 16
    assert np.isfinite(encoder.encode(prepared.examples)).all()
    assert family == "gpt2" or not any(encoder.tokenizer.unk_token_id in ids for ids in prepared.examples)

    make_fresh_text(settings, TEXTS, tmp_path / "b", seed=3)
    assert encoder_of(tmp_path / "b").fingerprint == encoder.fingerprint
    make_fresh_text(settings, TEXTS, tmp_path / "c", seed=4)
    assert encoder_of(tmp_path / "c").fingerprint != encoder.fingerprint


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_catalog_without_text_is_refused(family, tmp_path: Path) -> None:
    with pytest.raises(InputContractError, match="no text to learn words from"):
        make_fresh_text(FreshText(family=family, width=16, layers=1), [], tmp_path, seed=1)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"objective": "masked"}, {"objective": "masked", "fresh": {}, "tune": {"method": "full"}}], "first step"),
        ([{"objective": "masked", "fresh": {}}], "must be full"),
        ([{"objective": "masked", "tune": {"merge": False}}, {"objective": "behaviour"}], "only the last step"),
        ([{"objective": "causal", "tune": {"method": "prefix"}}, {"objective": "causal"}], "only the last step"),
        ([{"objective": "masked", "fresh": {"width": 36, "heads": 5}, "tune": {"method": "full"}}], "cannot be shared"),
        ([], "at least 1 item"),
    ],
)
def test_steps_that_do_not_follow_each_other_are_refused(steps, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PretrainSettings(
            tasks={"words": steps},
            every_days=1,
            on_drift=False,
            held_out=0.1,
            row_group_rows=1,
            tokenizer_rows=1,
            most_contents=1,
            rank_megabytes=1,
        )
