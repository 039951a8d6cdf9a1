"""How interactions are parted, and which items and users are withheld."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import field_validator, model_validator

from crossweave.config.section import Fraction, Section

TIMED = ("leave_last_out", "global_time")
"""Methods that part by time."""


class SplitSettings(Section):
    """How interactions are parted into train, valid and test."""

    protocol: Literal["warm", "cold"]
    method: Literal["column", "random", "leave_last_out", "global_time", "cold_users", "none"]
    column: str
    valid_fraction: Fraction
    test_fraction: Fraction
    valid_from: datetime.datetime | None
    test_from: datetime.datetime | None
    cold_items: Fraction

    @field_validator("valid_from", "test_from")
    @classmethod
    def _in_utc(cls, value: datetime.datetime | None) -> datetime.datetime | None:
        if value is None:
            return None
        try:
            return value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value.astimezone(datetime.UTC)
        except OverflowError as error:
            raise ValueError("expected a time that UTC can hold, from year 1 to 9999") from error

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> SplitSettings:
        if self.valid_fraction + self.test_fraction >= 1.0:
            raise ValueError("valid_fraction + test_fraction must stay below 1, or nothing is left to train on")
        if self.cold_items >= 1.0:
            raise ValueError("cold_items must stay below 1, or nothing is left to train on")
        return self

    @model_validator(mode="after")
    def _cuts_are_two_in_order(self) -> SplitSettings:
        if (self.valid_from is None) != (self.test_from is None):
            raise ValueError("valid_from and test_from belong together: give both times, or neither")
        if self.valid_from is not None and self.test_from is not None and self.valid_from > self.test_from:
            raise ValueError(f"valid_from {self.valid_from} must not lie after test_from {self.test_from}")
        return self
