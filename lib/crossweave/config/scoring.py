"""Settings of scoring: lists, rules, re-ranking, exploration, approximation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from crossweave.config.section import (
    ByName,
    Count,
    Fraction,
    InOrder,
    Name,
    Positive,
    Section,
    Split,
    sorted_by_name,
)


class SegmentRule(Section):
    """Which items some users may have."""

    users: Annotated[str, Field(min_length=1)]
    items: Annotated[str, Field(min_length=1)]


class FreshnessSettings(Section):
    """What new items gain."""

    column: str | None
    half_life_days: Annotated[float, Field(gt=0.0)]
    weight: Annotated[float, Field(ge=0.0)]


class RuleSettings(Section):
    """Rules over catalog columns."""

    available: Annotated[str, Field(min_length=1)] | None
    allow: ByName[list[str]]
    block: ByName[list[str]]
    segments: Annotated[dict[Name, SegmentRule], Field(max_length=31), AfterValidator(sorted_by_name)]
    at_most: ByName[Positive]
    freshness: FreshnessSettings

    @field_validator("allow", "block", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Take numbers and booleans for the strings that the catalog keeps them as."""
        if not isinstance(value, dict):
            return value
        return {
            column: [
                str(v).lower() if isinstance(v, bool) else str(v) if isinstance(v, int | float) else v for v in row
            ]
            if isinstance(row, list)
            else row
            for column, row in value.items()
        }

    @model_validator(mode="after")
    def _fits_the_bits_of_a_number(self) -> RuleSettings:
        if len(self.allow) + len(self.block) > 29:
            raise ValueError("allow and block take at most 29 columns together")
        return self


class ExploreSettings(Section):
    """Places for cold items."""

    share: Fraction
    first_rank: Positive


class AnnSettings(Section):
    """An index of nearest neighbours in place of exact scoring."""

    index: Literal["ivf", "hnsw"] | None
    lists: Positive | None
    probes: Positive
    links: Annotated[int, Field(ge=2, lt=2**31)]
    reach: Positive
    floor: Fraction
    sample: Positive


class ScoreSettings(Section):
    """Top-K for every user."""

    top_k: Positive
    block_users: Positive
    block_items: Positive
    history_splits: Annotated[list[Split], Field(min_length=1)]
    seen_splits: list[Split]
    reasons: Count
    reason_items: Count
    rules: RuleSettings
    rerank: InOrder[dict[str, Any] | None] | None
    rerank_pool: Positive
    explore: ExploreSettings
    incremental: bool
    ann: AnnSettings

    @model_validator(mode="after")
    def _has_ranks_to_explore(self) -> ScoreSettings:
        if self.explore.first_rank > self.top_k:
            raise ValueError(f"explore.first_rank {self.explore.first_rank} must not exceed top_k {self.top_k}")
        return self
