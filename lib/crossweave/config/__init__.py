"""The settings: typed, frozen, and loaded from YAML files and `--set` pairs."""

from crossweave.config.load import load_settings, override, settings_yaml
from crossweave.config.saved import saved_settings
from crossweave.config.schema import (
    EmbedSettings,
    EncoderSpec,
    EvaluateSettings,
    ExportSettings,
    InputSettings,
    ModalitySettings,
    ModelSettings,
    ScoreSettings,
    SearchSettings,
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
    "SearchSettings",
    "Settings",
    "SplitSettings",
    "TensorSettings",
    "TrainSettings",
    "load_settings",
    "override",
    "saved_settings",
    "settings_yaml",
]
