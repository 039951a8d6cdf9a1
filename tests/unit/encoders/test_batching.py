"""Batches: budget kept, order restored, one bad example costs only itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crossweave.encoders.base import BadValueError, Encoder, EncoderSettings, FloatArray
from crossweave.encoders.batching import cut_batches, encode_values
from crossweave.errors import SettingsError


class Numbers(Encoder):
    """Encodes n as [n, n]; some numbers misbehave."""

    name = "numbers"
    Settings = EncoderSettings
    batch_budget = 10  # type: ignore[assignment]

    def __init__(self, kind: str = "vector", settings: EncoderSettings | None = None) -> None:
        super().__init__(kind, settings or EncoderSettings())
        self.calls: list[list[int]] = []

    def _dim(self) -> int:
        return 2

    def cost(self, example: Any) -> int:
        return int(example)

    def _prepare_one(self, value: Any) -> int:
        if value < 0:
            raise BadValueError("negative", "A number below zero came.")
        return int(value)

    def _encode(self, examples: list[Any]) -> FloatArray:
        self.calls.append(list(examples))
        if 13 in examples:
            raise ValueError("thirteen " * 50)
        if 14 in examples:
            raise MemoryError("no room")
        if 15 in examples:
            raise SettingsError("the weights are gone")
        rows = np.repeat(np.array(examples, dtype=np.float32)[:, None], 2, axis=1)
        rows[[example == 9 for example in examples], 1] = np.nan
        return rows


@pytest.fixture
def numbers() -> Numbers:
    made = Numbers()
    made.load()
    return made


def test_costs_are_cut_largest_first_within_the_padded_budget() -> None:
    assert list(cut_batches([1, 5, 3, 5, 2, 20], 10)) == [[5], [1, 3], [2, 4, 0]]
    assert list(cut_batches([], 10)) == []


def test_rows_come_back_in_the_order_of_the_values(numbers: Numbers) -> None:
    vectors, positions, failures = encode_values(numbers, [3, 1, 5, 2, 4])
    assert vectors[:, 0].tolist() == [3, 1, 5, 2, 4]
    assert positions == [0, 1, 2, 3, 4]
    assert failures == []
    assert all(max(call) * len(call) <= 10 for call in numbers.calls)


def test_each_kind_of_failure_has_its_reason_and_position(numbers: Numbers) -> None:
    type(numbers).batch_budget = 1000  # type: ignore[assignment]
    vectors, positions, failures = encode_values(numbers, [1, -1, 13, 9, 14, 2])
    type(numbers).batch_budget = 10  # type: ignore[assignment]
    assert vectors[:, 0].tolist() == [1, 2]
    assert positions == [0, 5]
    found = [(failure.position, failure.reason, failure.transient) for failure in failures]
    assert found == [
        (1, "negative", False),
        (2, "encoder_error", False),
        (3, "non_finite", False),
        (4, "encoder_error", True),
    ]
    assert failures[1].detail.startswith("ValueError: thirteen")
    assert len(failures[1].detail) == 200


def test_wrong_settings_found_late_stop_everything(numbers: Numbers) -> None:
    with pytest.raises(SettingsError, match="gone"):
        encode_values(numbers, [1, 15])
