"""Settings of evaluation: what stands beside a model, what may stop it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crossweave.config.section import Fraction, Section

Baseline = Literal["popularity", "item_knn", "ease", "content_knn"]
Limit = Annotated[float, Field(ge=0.0)]


class DriftSettings(Section):
    """How far a night may move from the one that is served before somebody is told; null: never told."""

    sample: Annotated[int, Field(ge=10, lt=2**31)]
    neighbours: Fraction | None
    scores: Limit | None
    features: Limit | None
    added: Limit | None
    removed: Limit | None
    changed: Limit | None


class GateSettings(Section):
    """What a new model must not be worse than, beyond chance."""

    metric: Annotated[str, Field(pattern=r"^(recall|ndcg|precision|f1|hit_rate|mrr|map)@[1-9][0-9]*$")]
    tolerance: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    against: Annotated[list[Literal["previous"] | Baseline], Field(min_length=1)] = Field(["previous"])

    @property
    def k(self) -> int:
        """The K of the metric."""
        return int(self.metric.partition("@")[2])
