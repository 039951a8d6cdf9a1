"""Settings of what encoders learn from the catalog before they encode it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from crossweave.config.section import ByName, Count, Fraction, Positive, Section

Rate = Annotated[float, Field(gt=0.0)]
Objective = Literal["masked", "causal", "behaviour"]
Method = Literal["full", "last", "lora", "adalora", "ia3", "prefix"]


class FreshModel(Section):
    """A small model to start from where no weights know the catalog's language; its tokenizer is trained too."""

    vocabulary: Annotated[int, Field(ge=64)] = 8_000
    width: Annotated[int, Field(ge=8)] = 256
    layers: Positive = 4
    heads: Positive = 4
    tokens: Annotated[int, Field(ge=8)] = 128  # of the longest text

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> FreshModel:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        return self


class Tuning(Section):
    """Which weights may change."""

    method: Method = "lora"
    layers: Positive = 2  # last: of the encoder, counted from the end
    rank: Positive = 8  # lora, adalora
    alpha: Rate = 16.0  # lora, adalora: the update counts alpha / rank
    dropout: Fraction = 0.05  # lora, adalora
    virtual_tokens: Positive = 8  # prefix
    merge: bool = True  # into the weights; false keeps the adapter beside them


class PretrainTask(Section):
    """How one encoder learns the catalog."""

    objective: Objective
    own: ByName[Any] = Field(default_factory=dict)  # the objective's own settings
    tune: Tuning = Tuning()
    fresh: FreshModel | None = None
    max_items: Positive = 200_000  # contents, or items, looked at: drawn by the seed
    max_tokens: Positive = 64  # of a text
    batch: Positive = 32  # examples of a rank in one step
    max_epochs: Positive = 3
    patience: Positive = 1  # epochs without a lower held-out loss before it ends
    held_out: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05  # share that only judges
    learning_rate: Rate = 5e-4
    lr_scaling: Literal["sqrt", "linear", "none"] = "sqrt"
    warmup_steps: Count = 20
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    clip_norm: Rate = 1.0
    accumulate: Positive = 1
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    gradient_checkpointing: bool = False  # less memory for a third more time


class PretrainSettings(Section):
    """Which encoders learn the catalog, and how often."""

    encoders: ByName[PretrainTask]
    every_days: Positive | None
    on_drift: bool
