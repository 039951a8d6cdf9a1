"""Sounds through a transformer from a local directory: Wav2Vec2, HuBERT, AST.

Letters in shapes: B clips, S samples, T frames, D features.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from crossweave.encoders.base import EncoderSettings, FloatArray
from crossweave.encoders.huggingface import (
    PREPROCESSOR,
    WHAT,
    import_transformers,
    load_model,
    media_files,
    model_of_shapes,
    read_config,
)
from crossweave.encoders.neural import NeuralSettings, TrainableEncoder
from crossweave.encoders.sounds import AudioEncoder, AudioSettings
from crossweave.encoders.weights import hash_files, read_json
from crossweave.errors import SettingsError

_WAVE_MODELS = ("wav2vec2", "hubert")
_SPECTROGRAM_MODEL = "audio-spectrogram-transformer"


class AudioTransformerSettings(NeuralSettings, AudioSettings):
    """Settings of the audio transformer encoder."""

    path: Path = Field(description="Directory with config.json, preprocessor_config.json and safetensors; hashed.")
    normalize: bool = Field(False, description="Scale vectors to length 1.")
    batch_seconds: float = Field(30.0, gt=0, description="Seconds of sound in one call; 30 suit a CPU core.")


class AudioTransformerEncoder(TrainableEncoder, AudioEncoder):
    """A sound's bytes become a vector [D]: the mean over frames of Wav2Vec2 or HuBERT, or AST's pooled
    output.

    A call holds clips of one length only: padding would change the vectors of models whose first layer normalises
    over time. Failures: those of `media.decode_audio`, and too_short. Raises SettingsError where the directory is
    missing, incomplete or of a kind that is not supported.
    """

    name = "transformer"
    Settings: ClassVar[type[EncoderSettings]] = AudioTransformerSettings
    neutral_settings = TrainableEncoder.neutral_settings | AudioEncoder.neutral_settings | {"path", "batch_seconds"}
    settings: AudioTransformerSettings

    @property
    def batch_budget(self) -> int:
        """Samples of one call."""
        return int(self.settings.batch_seconds * self.sample_rate)

    def cost(self, example: Any) -> int:
        """Samples."""
        return len(example)

    @functools.cached_property
    def _config(self) -> dict[str, Any]:
        config = read_config(self.settings.path)
        if config.get("model_type") not in (*_WAVE_MODELS, _SPECTROGRAM_MODEL):
            raise SettingsError(
                f"{WHAT}: a sound model of type {config.get('model_type')!r} is not supported",
                hint=f"Supported are {', '.join((*_WAVE_MODELS, _SPECTROGRAM_MODEL))}.",
            )
        if config.get("add_adapter"):
            raise SettingsError(f"{WHAT}: a {config['model_type']} with an adapter is not supported")
        return config

    @functools.cached_property
    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = read_json(self.settings.path / PREPROCESSOR, WHAT)
        if not isinstance(facts.get("sampling_rate"), int):
            raise SettingsError(f"{WHAT}: {PREPROCESSOR} does not say the sampling_rate")
        sizes = {"num_mel_bins": 128, "max_length": 1024}  # and their defaults, on both sides
        for key, default in sizes.items() if self._config["model_type"] == _SPECTROGRAM_MODEL else ():
            made, wanted = facts.get(key, default), self._config.get(key, default)
            if made != wanted:
                raise SettingsError(f"{WHAT}: {PREPROCESSOR} makes {key} {made}, the model takes {wanted}")
        return facts

    @property
    def sample_rate(self) -> int:
        """Hz, as the model was trained."""
        return int(self._facts["sampling_rate"])

    @property
    def min_samples(self) -> int:
        """What the first frame sees: the convolutions' reach, or one 25 ms window."""
        if self._config["model_type"] == _SPECTROGRAM_MODEL:
            return int(0.025 * self.sample_rate)
        reach = 1
        kernels = self._config.get("conv_kernel", (10, 3, 3, 3, 3, 2, 2))
        strides = self._config.get("conv_stride", (5, 2, 2, 2, 2, 2, 2))
        for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
            reach = (reach - 1) * stride + kernel
        return reach

    def _dim(self) -> int:
        return int(self._config.get("hidden_size", 768))

    def _weights_hash(self) -> str:
        _ = self._config, self._facts  # a directory that does not fit is refused before it is hashed
        return hash_files(self.files)

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        """Weights, configuration and preprocessor."""
        return media_files(self.settings.path)

    def network(self) -> torch.nn.Module:
        """The model as transformers loads it."""
        model = load_model(import_transformers().AutoModel, self.settings.path)
        model.config.apply_spec_augment = False  # of learning: it draws from a generator of NumPy's that nobody seeds
        model.config.layerdrop = 0.0  # ranks that leave out different layers wait for each other's gradients for ever
        ready: torch.nn.Module = model
        return ready

    def skeleton(self) -> torch.nn.Module:
        """The model's shapes."""
        return model_of_shapes(self.settings.path)

    @functools.cached_property
    def _extractor(self) -> Any:
        return import_transformers().ASTFeatureExtractor.from_pretrained(str(self.settings.path), local_files_only=True)

    def _prepare_wave(self, wave_S: FloatArray) -> FloatArray:
        """Mean 0 and deviation 1, where the model was trained so."""
        if self._config["model_type"] == _SPECTROGRAM_MODEL or not self._facts.get("do_normalize", True):
            return wave_S
        scaled: FloatArray = (wave_S - wave_S.mean()) / np.sqrt(wave_S.var() + 1e-7)
        return scaled

    def _encode(self, examples: list[FloatArray]) -> FloatArray:
        vectors_BD = np.zeros((len(examples), self.dim), dtype=np.float32)
        for group in self._groups(np.array([len(wave) for wave in examples])):
            vectors_BD[group] = super()._encode([examples[index] for index in group])
        return vectors_BD

    def _groups(self, lengths: FloatArray) -> list[Any]:
        """Indices of clips that may share a call: all of them for AST, which has a fixed length; else equal lengths."""
        if self._config["model_type"] == _SPECTROGRAM_MODEL:
            return [np.arange(len(lengths))]
        return [np.flatnonzero(lengths == length) for length in np.unique(lengths)]

    def collate(self, examples: Sequence[FloatArray]) -> tuple[torch.Tensor, ...]:
        """What AST is shown, or waves float32 [B, S], shorter ones repeated until they are as long as the longest."""
        if self._config["model_type"] == _SPECTROGRAM_MODEL:
            shown = self._extractor(list(examples), sampling_rate=self.sample_rate, return_tensors="pt")
            return (shown["input_values"],)
        longest = max(map(len, examples))
        return (torch.from_numpy(np.stack([np.resize(wave, longest) for wave in examples])),)

    def vectors(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        """The mean over frames, or AST's pooled output."""
        output = network(batch[0].to(self._dtype))
        spectrogram = self._config["model_type"] == _SPECTROGRAM_MODEL
        pooled = (output.pooler_output if spectrogram else output.last_hidden_state.float().mean(dim=1)).float()
        return torch.nn.functional.normalize(pooled, dim=1) if self.settings.normalize else pooled
