"""What encoders learned: kept to the bit, and refused where it is not as it was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossweave.errors import ArtifactError
from crossweave.tables.encoder_states import EncoderState, EncoderStates

STATE = EncoderState({"mean": [1.5, 0.1]}, {"precision": "int8", "backend": "eager"})


def test_a_state_comes_back_equal_and_one_never_saved_is_empty(tmp_path: Path) -> None:
    EncoderStates(tmp_path).save("facts", "ab12", STATE)
    assert EncoderStates(tmp_path).load("facts", "ab12") == STATE
    assert EncoderStates(tmp_path).load("facts", "other") == EncoderState()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("0.1", "0.2"),
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: json.dumps({"learned": None, "unknown": 1}),
        lambda text: text.replace('"schema": 1', '"schema": 9'),
    ],
    ids=["a digit", "cut", "a list", "another key", "another schema"],
)
def test_one_that_is_not_as_it_was_written_is_refused_with_what_removing_it_means(tmp_path: Path, damage) -> None:
    EncoderStates(tmp_path).save("facts", "ab12", STATE)
    (path,) = (tmp_path / "encoders").iterdir()
    path.write_text(damage(path.read_text()))
    with pytest.raises(ArtifactError, match=path.name) as caught:
        EncoderStates(tmp_path).load("facts", "ab12")
    assert "./submit.sh embed then makes all of its vectors anew" in caught.value.hint


def test_one_from_before_states_were_sealed_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "encoders").mkdir()
    (tmp_path / "encoders" / "facts-ab12.json").write_text('{"learned": {"mean": [2]}, "selftest": null}')
    assert EncoderStates(tmp_path).load("facts", "ab12") == EncoderState({"mean": [2]})
