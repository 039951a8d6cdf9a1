"""What every setting is: its type, range and meaning (units stand in `conf/base.yaml` too)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from crossweave.config.evaluation import Baseline, DriftSettings, GateSettings
from crossweave.config.pretraining import PretrainSettings
from crossweave.config.scoring import ScoreSettings
from crossweave.config.search import SearchSettings
from crossweave.config.section import (
    ByName,
    Count,
    Derived,
    Fraction,
    Kind,
    Name,
    Positive,
    Section,
    Seed,
    TimeUnit,
    sorted_by_name,
)
from crossweave.config.split import TIMED, SplitSettings
from crossweave.config.tracking import TrackingSettings

Place = tuple[str | int, ...]
"""Where a setting stands: the keys, and numbers in lists, that lead to it."""


class ItemInput(Section):
    """The items table and its columns."""

    path: str
    id: str
    title: str | None
    cold_column: str | None
    attributes: list[str]
    updated_at: str | None
    time_unit: TimeUnit
    derived: Derived


class InteractionInput(Section):
    """The interactions table and its columns."""

    path: str
    user: str
    item: str
    weight: str | None
    missing_weight: Annotated[float, Field(allow_inf_nan=False)] | None
    time: str | None
    time_unit: TimeUnit
    derived: Derived


class UserInput(Section):
    """The users table and its columns; without a path, users are those of the interactions."""

    path: str | None
    id: str
    attributes: list[str]
    derived: Derived


class BlockInput(Section):
    """Items that single users are never to be recommended; without a path there are none."""

    path: str | None
    user: str
    item: str
    derived: Derived


class InputSettings(Section):
    """Where the catalog lies and how its columns are called."""

    root: str
    items: ItemInput
    interactions: InteractionInput
    users: UserInput
    blocks: BlockInput


class IngestSettings(Section):
    """How many rows of an input table may be refused."""

    max_refused_fraction: Fraction
    min_refused_count: Annotated[int, Field(ge=0)]


class ModalitySettings(Section):
    """One named input of an item: its kind, the columns it is read from, and its encoder."""

    kind: Kind
    columns: Annotated[list[str], Field(min_length=1)]
    encoder: str

    @model_validator(mode="after")
    def _one_column_unless_several_fit(self) -> ModalitySettings:
        if self.kind not in ("text", "attributes") and len(self.columns) != 1:
            raise ValueError(f"a modality of kind {self.kind} is read from exactly one column")
        return self


class EncoderSpec(BaseModel):
    """A named encoder: its type and that type's own settings, which its class checks."""

    model_config = ConfigDict(frozen=True, extra="allow")
    type: str

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return sorted_by_name(value)

    @property
    def own(self) -> dict[str, Any]:
        """The encoder's own settings: all but the type."""
        return dict(self.model_extra or {})


class WeightSettings(Section):
    """Where local weights lie; other settings refer to it as `${weights.root}`."""

    root: str


class EmbedSettings(Section):
    """How contents are encoded on the workers."""

    batch_rows: Positive
    rows_per_task: Positive
    max_bad_fraction: Fraction
    min_bad_count: Count
    retry_failed: bool
    isolate_decoders: bool
    item_seconds: Annotated[float, Field(gt=0.0, le=86_400.0)]
    item_megabytes: Positive
    commit_contents: Positive
    compact_files: Annotated[int, Field(ge=2, lt=2**31)]
    fit_rows: Positive
    refit: bool
    selftest_rows: Positive
    device: Literal["auto", "cpu", "cuda"]


class TensorSettings(Section):
    """The shape of the Petastorm datasets."""

    history: Positive
    row_group_rows: Positive
    item_row_group_rows: Positive
    user_attribute_values: Positive


class ModelSettings(Section):
    """The alignment model."""

    dim: Annotated[int, Field(ge=2, le=65_536)]
    fusion: str
    fusion_settings: ByName[Any]
    user_tower: str
    user_tower_settings: ByName[Any]
    head: str
    head_settings: ByName[Any]
    losses: ByName[Annotated[float, Field(ge=0.0)]]
    loss_settings: ByName[dict[str, Any]]
    collaborative: ByName[dict[str, Any] | None]
    content_map: ByName[Any]
    content_map_search: bool
    projector_hidden: Positive
    token_norm: Literal["unit", "layer", "none"]
    max_norm: Annotated[float, Field(gt=0.0)] | None
    item_id: bool
    item_id_dropout: Fraction
    modality_dropout: Fraction
    user_attributes: bool
    user_attribute_dropout: Fraction
    user_id: bool
    user_id_dropout: Fraction


class TrainSettings(Section):
    """The training loop."""

    ranks: Positive
    threads: Positive
    batch_users: Positive
    max_epochs: Positive
    patience: Positive
    validate_every: Positive
    accumulate: Positive
    precision: Literal["float32", "bf16", "fp16"]
    device: Literal["auto", "cpu", "cuda"]
    learning_rate: Annotated[float, Field(gt=0.0)]
    lr_scaling: Literal["sqrt", "linear", "none"]
    weight_decay: Annotated[float, Field(ge=0.0)]
    content_learning_rate: Annotated[float, Field(gt=0.0, le=1.0)]
    content_weight_decay: Annotated[float, Field(ge=0.0)]
    warmup_steps: Count
    clip_norm: Annotated[float, Field(gt=0.0)]
    compression: Literal["none", "fp16"]
    negatives: Count
    negative_power: Fraction
    item_balance: Fraction
    weight_by: Literal["none", "weight"]
    alignment_items: Annotated[int, Field(ge=2, lt=2**31)]
    history_keep: tuple[Fraction, Fraction]
    history_limit: Positive
    metric: Annotated[str, Field(pattern=r"^(ndcg|recall)@[1-9][0-9]*$")]
    start_timeout_seconds: Positive
    stall_warn_seconds: Positive
    stall_seconds: Positive
    elastic: bool
    min_ranks: Positive
    keep_checkpoints: Positive
    checkpoint_minutes: Annotated[float, Field(gt=0.0, le=1e6)]

    @model_validator(mode="after")
    def _can_go_on(self) -> TrainSettings:
        if self.min_ranks > self.ranks:
            raise ValueError(f"min_ranks {self.min_ranks} must not exceed ranks {self.ranks}")
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError("precision fp16 needs a GPU, device is cpu; take float32 or bf16")
        return self

    @field_validator("history_keep")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0.0 < value[0] <= value[1] < 1.0:
            raise ValueError("expected two shares [low, high] with 0 < low <= high < 1")
        return value


class EvaluateSettings(Section):
    """Metrics and the report."""

    ks: Annotated[list[Positive], Field(min_length=1)]
    bootstrap: Positive
    sample_users: Count
    baselines: list[Baseline]
    ease_items: Positive
    item_knn_items: Positive
    item_knn_interactions: Positive
    pointwise_users: Count
    gate: GateSettings | None
    drift: DriftSettings | None
    map_items: Annotated[int, Field(ge=0, le=2000)]
    map_colour: str | None
    retrieval_items: Annotated[int, Field(ge=0, le=5000)]
    retrieval_examples: Annotated[int, Field(ge=0, le=50)]
    user_slices: list[str]
    item_slices: list[str]
    item_age: str | None
    min_group: Positive


class ExportSettings(Section):
    """What leaves the workspace, and where to."""

    what: Literal["recommendations", "items", "users", "features", "model"]
    format: Literal["parquet", "faiss", "mmrec", "safetensors", "onnx"]
    path: str | None


class CollectSettings(Section):
    """What garbage collection keeps."""

    keep_days: Annotated[int, Field(ge=0, le=36_500)]
    keep_versions: Positive
    keep_served: Annotated[int, Field(ge=0, le=29)]
    dry_run: bool


class DemoSettings(Section):
    """Size of the generated shop."""

    items: Annotated[int, Field(ge=40, lt=2**31)]
    users: Annotated[int, Field(ge=10, lt=2**31)]
    interactions: Positive


class SparkSettings(Section):
    """Settings of the Spark session, and of the driver, that follow the data rather than the cluster."""

    driver_threads: Positive | None
    shuffle_partitions: Positive | None


class Settings(Section):
    """All settings of a run."""

    workspace: str
    seed: Seed
    inputs: InputSettings
    ingest: IngestSettings
    split: SplitSettings
    modalities: Annotated[dict[Name, ModalitySettings], AfterValidator(sorted_by_name)]
    encoders: ByName[EncoderSpec]
    weights: WeightSettings
    pretrain: PretrainSettings
    embed: EmbedSettings
    tensors: TensorSettings
    model: ModelSettings
    train: TrainSettings
    search: SearchSettings
    score: ScoreSettings
    evaluate: EvaluateSettings
    export: ExportSettings
    gc: CollectSettings
    demo: DemoSettings
    tracking: TrackingSettings
    spark: SparkSettings
    _references: dict[Place, str] = PrivateAttr(default_factory=dict)

    @property
    def references(self) -> dict[Place, str]:
        """Settings whose values come from the environment, with the text that says so."""
        return self._references

    def referring(self, references: dict[Place, str]) -> Settings:
        """Return these settings, knowing which of them come from the environment."""
        self._references = references
        return self

    @model_validator(mode="after")
    def _encoders_exist(self) -> Settings:
        for name, modality in self.modalities.items():
            if modality.encoder not in self.encoders:
                known = ", ".join(sorted(self.encoders)) or "none"
                raise ValueError(
                    f"modalities.{name}.encoder names {modality.encoder!r}, which `encoders` does not define ({known})"
                )
        return self

    @model_validator(mode="after")
    def _split_has_its_columns(self) -> Settings:
        split, flag, time = self.split, self.inputs.items.cold_column, self.inputs.interactions.time
        if split.method in TIMED and time is None:
            raise ValueError(f"split.method={split.method} needs inputs.interactions.time, the column that says when")
        if split.cold_items and flag is not None:
            raise ValueError("split.cold_items draws withheld items, and inputs.items.cold_column names them: give one")
        if split.protocol == "cold" and flag is None and not split.cold_items:
            raise ValueError(
                "split.protocol=cold needs inputs.items.cold_column, the column that flags withheld items, or "
                "split.cold_items, the share of items to draw"
            )
        return self
