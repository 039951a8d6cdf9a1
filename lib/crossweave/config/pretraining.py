"""Settings of what encoders learn from the catalog before they encode it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

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


class FreshText(Section):
    """A small language model that knows nothing yet, with a tokenizer learned from the catalog."""

    family: Literal["bert", "gpt2"] = "bert"
    width: Annotated[int, Field(ge=8, le=4096, multiple_of=4)] = 128
    layers: Positive = 2
    heads: Positive = 2
    words: Annotated[int, Field(ge=300, lt=2**20)] = 8000  # of the tokenizer, at most; 256 are the bytes
    max_tokens: Annotated[int, Field(ge=8, le=4096)] = 128

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> FreshText:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be shared by {self.heads} heads")
        return self


class FreshVae(Section):
    """A convolutional variational autoencoder that has seen nothing yet."""

    family: Literal["vae"]
    side: Annotated[int, Field(ge=8, le=512)] = 64  # pixels of the pictures
    # Each halves the side.
    channels: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=8)] = (32, 64, 128, 256)
    latent: Annotated[int, Field(ge=1, le=8192)] = 128

    @model_validator(mode="after")
    def _side_can_be_halved(self) -> FreshVae:
        if self.side % 2 ** len(self.channels):
            raise ValueError(f"a side of {self.side} cannot be halved {len(self.channels)} times")
        return self


def _family(value: Any) -> str:
    family = value.get("family", "bert") if isinstance(value, dict) else getattr(value, "family", "bert")
    return "vae" if family == "vae" else "text"


Fresh = Annotated[
    Annotated[FreshText, Tag("text")] | Annotated[FreshVae, Tag("vae")],
    Discriminator(_family),
]


class Student(Section):
    """What is left of an encoder before it learns: a smaller one is faster."""

    layers: Positive | None = None  # so many, at even distances; null: all
    neurons: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # share of those in each feed-forward part: the strongest
    zeros: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # share of every matrix, set to zero: smaller files, no speed


class PretrainStep(Section):
    """How an encoder learns the catalog: one objective, from the weights that the step before it left."""

    objective: str  # of crossweave.pretraining.objectives
    own: ByName[Any] = Field(default_factory=dict)  # the objective's own settings
    fresh: Fresh | None = None  # of a first step: begin with nothing instead of the encoder's path
    student: Student | None = None  # begin with a part of the encoder
    max_tokens: Positive | None = None  # of a text that it learns from; null: as many as the encoder reads
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

    @model_validator(mode="after")
    def _fresh_weights_all_learn(self) -> PretrainStep:
        if self.fresh is not None and self.tune.method != "full":
            raise ValueError(f"a fresh model has nothing to keep: tune.method must be full, got {self.tune.method}")
        if self.student is not None and self.student.zeros and self.tune.method not in ("full", "last"):
            raise ValueError(f"student.zeros needs tune.method full or last: {self.tune.method} fills them again")
        if self.student is not None and not (self.tune.merge and self.tune.method != "prefix"):
            raise ValueError(
                "an adapter beside the weights does not fit a student: set tune.merge: true, and no prefix"
            )
        return self


class PretrainSettings(Section):
    """Which encoders learn the catalog, how, and how often."""

    tasks: ByName[Annotated[list[PretrainStep], Field(min_length=1)]]  # encoder -> steps
    every_days: Positive
    on_drift: bool
    held_out: Annotated[float, Field(gt=0.0, le=0.5)]
    row_group_rows: Positive
    tokenizer_rows: Positive
    most_contents: Positive
    rank_megabytes: Positive

    @model_validator(mode="after")
    def _only_ends_differ(self) -> PretrainSettings:
        for name, steps in self.tasks.items():
            for number, step in enumerate(steps):
                if step.fresh is not None and number:
                    raise ValueError(f"tasks.{name}: only the first step may begin with a fresh model")
                if number < len(steps) - 1 and not (step.tune.merge and step.tune.method != "prefix"):
                    raise ValueError(f"tasks.{name}: only the last step may leave an adapter beside the weights")
        return self

    def is_fresh(self, encoder: str) -> bool:
        """Say whether an encoder begins with nothing, and has no files before it has learned."""
        return encoder in self.tasks and self.tasks[encoder][0].fresh is not None
