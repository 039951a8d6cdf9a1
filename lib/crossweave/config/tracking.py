"""Settings of tracking: where a run's figures go beside its own folder."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from crossweave.config.section import Positive, Section


class MlflowSettings(Section):
    """An MLflow server, or a store on disk."""

    uri: Annotated[str, Field(min_length=1)]
    experiment: Annotated[str, Field(min_length=1)] = "crossweave"

    @field_validator("uri")
    @classmethod
    def _without_credentials(cls, uri: str) -> str:
        if "@" in uri.partition("://")[2].partition("/")[0]:
            # Settings are kept with every run and shown in the report.
            raise ValueError("must hold no user or password; MLFLOW_TRACKING_USERNAME and _PASSWORD are for them")
        return uri


class WandbSettings(Section):
    """A Weights & Biases project."""

    project: Annotated[str, Field(min_length=1)] = "crossweave"
    mode: Literal["offline", "online"] = "offline"


class OnFailureSettings(Section):
    """Who is told of a run that failed: a command, an address, or both."""

    command: Annotated[str, Field(min_length=1)] | None = None
    webhook: Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/\S*)?$")] | None = None
    codes: Annotated[tuple[Literal[1, 2, 3, 4, 75], ...], Field(min_length=1)] = (1, 2, 3, 4, 75)

    @model_validator(mode="after")
    def _tells_somebody(self) -> Self:
        if self.command is None and self.webhook is None:
            raise ValueError("names neither a command nor a webhook; null tells nobody")
        return self


class TrackingSettings(Section):
    """Who is told of a run when it ends."""

    prometheus: Annotated[str, Field(pattern=r"\.prom$")] | None
    mlflow: MlflowSettings | None
    wandb: WandbSettings | None
    on_failure: OnFailureSettings | None
    seconds: Positive
