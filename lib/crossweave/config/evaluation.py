"""Settings of evaluation: what stands beside a model, what may stop it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crossweave.config.section import Section

Baseline = Literal["popularity", "item_knn", "ease", "content_knn"]


class GateSettings(Section):
    """What a new model must not be worse than, beyond chance."""

    metric: Annotated[str, Field(pattern=r"^(recall|ndcg|precision|f1|hit_rate|mrr|map)@[1-9][0-9]*$")]
    tolerance: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    against: Annotated[list[Literal["previous"] | Baseline], Field(min_length=1)] = Field(["previous"])
