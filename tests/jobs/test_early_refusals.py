"""Settings that a late stage could not use end the run with 2 before the first stage does anything."""

from __future__ import annotations

import pytest
import torch
from support import Chain

GPU = torch.cuda.is_available()
WRONG = {
    "a condition": ({"score.rules.available": "1 +"}, "score.rules.available is no expression"),
    "a condition of another type": (
        {"score.rules.available": "title"},
        "score.rules.available should be true or false",
    ),
    "users of a segment": (
        {"score.rules.segments": {"a": {"users": "1 +", "items": "true"}}},
        "score.rules.segments.a.users is no expression",
    ),
    "items of a segment": (
        {"score.rules.segments": {"a": {"users": "true", "items": "nope = 1"}}},
        "score.rules.segments.a.items is no expression",
    ),
    "elastic in local mode": ({"train.elastic": True}, "train.elastic needs a Spark that survives"),
    "a GPU that there is not": ({"train.device": "cuda"}, "train.device is cuda"),
    "a precision of GPUs": ({"train.precision": "fp16"}, "train.precision fp16 needs a GPU"),
}
NAMES = {
    "a column of at_most": ({"score.rules.at_most": {"nope": 1}}, "score.rules.at_most.nope names a column"),
    "a column of allow": ({"score.rules.allow": {"nope": ["a"]}}, "score.rules.allow.nope names a column"),
    "a column of freshness": (
        {"score.rules.freshness": {"column": "nope", "weight": 1, "half_life_days": 3}},
        "score.rules.freshness.column names a column",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_only_spark_or_the_machine_can_judge_is_refused_before_anything_is_written(new_chain: Chain, case: str):
    if GPU and ("GPU" in case or "GPUs" in case):
        pytest.skip("this machine has a GPU")
    values, message = WRONG[case]
    assert new_chain.attempt(**values) == 2
    assert message in "\n".join(new_chain.said)
    assert not (new_chain.workspace / "tables").exists()


@pytest.mark.parametrize("case", NAMES)
def test_names_are_compared_before_any_input_is_looked_at(new_chain: Chain, case: str):
    values, message = NAMES[case]
    assert new_chain.attempt(**values | {"inputs.root": str(new_chain.workspace / "none")}) == 2
    assert message in "\n".join(new_chain.said)
