"""Settings of what encoders learn from the catalog before they encode it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from crossweave.config.section import ByName, Count, Fraction, Positive, Section

Rate = Annotated[float, Field(gt=0.0)]
Method = Literal["full", "last", "lora", "adalora", "ia3", "prefix"]


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

    objective: str  # of crossweave.pretraining.objectives
    own: ByName[Any] = Field(default_factory=dict)  # the objective's own settings
    tune: Tuning = Tuning()
    batch: Positive = 32  # examples of a rank in one step
    max_epochs: Positive = 3
    patience: Positive = 1  # epochs without a lower held-out loss before it ends
    learning_rate: Rate = 5e-4
    lr_scaling: Literal["sqrt", "linear", "none"] = "sqrt"
    warmup_steps: Count = 20
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    clip_norm: Rate = 1.0
    accumulate: Positive = 1
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    gradient_checkpointing: bool = False  # less memory for a third more time
