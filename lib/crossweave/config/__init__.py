"""The settings: typed, frozen, and loaded from YAML files and `--set` pairs."""

from crossweave.config.load import load_settings, settings_yaml
from crossweave.config.schema import (
    EmbedSettings,
    EncoderSpec,
    EvaluateSettings,
    ExportSettings,
    InputSettings,
    ModalitySettings,
    ModelSettings,
    ScoreSettings,
    Settings,
    SplitSettings,
    TensorSettings,
    TrainSettings,
)

__all__ = [
    "EmbedSettings",
    "EncoderSpec",
    "EvaluateSettings",
    "ExportSettings",
    "InputSettings",
    "ModalitySettings",
    "ModelSettings",
    "ScoreSettings",
    "Settings",
    "SplitSettings",
    "TensorSettings",
    "TrainSettings",
    "load_settings",
    "settings_yaml",
]
