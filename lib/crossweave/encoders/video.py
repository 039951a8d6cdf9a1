"""Videos through encoders of other kinds: frames through a picture encoder, the sound track through a sound encoder.

Letters in names: B videos, F frames of one video, D features.
"""

from __future__ import annotations

import abc
import functools
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from crossweave.encoders.base import Encoder, EncoderSettings, FloatArray
from crossweave.encoders.containers import read_frames, read_sound
from crossweave.encoders.pictures import ImageEncoder
from crossweave.encoders.sounds import AudioEncoder
from crossweave.errors import SettingsError

_FEWEST_DECODED = 64


class _VideoEncoder(Encoder):
    """Wraps the encoder of another kind, whose fingerprint stands for weights and settings."""

    isolated = True
    window = 16
    decoder_version = 1  # frames are turned as the video says; the sound is read as that of a sound file

    @property
    @abc.abstractmethod
    def inner(self) -> Encoder:
        """The wrapped encoder."""

    def warm_up(self) -> None:
        """Make the wrapped encoder: importing it can take more memory than decoding does."""
        self.inner.warm_up()

    def _weights_hash(self) -> str:
        return self.inner.fingerprint

    def _load(self, device: str) -> None:
        self.inner.load(device)


class FramesSettings(EncoderSettings):
    """Settings of the frame encoder."""

    encoder: dict[str, Any] = Field(description="The picture encoder: {type: descriptor, …} with its own settings.")
    frames: int = Field(8, ge=1, le=256, description="Frames sampled, from the middles of as many equal parts.")
    pool: Literal["mean", "max", "both"] = Field("mean", description="Over frames; both: mean, then max.")
    max_pixels: int = Field(50_000_000, ge=1, description="Width times height; larger videos are refused.")
    refuse_seconds: float = Field(14_400.0, gt=0, description="Seconds; longer videos are refused.")
    max_decoded: int = Field(3000, ge=_FEWEST_DECODED, description="Frames decoded on the way, at the most.")


class FramesEncoder(_VideoEncoder):
    """MP4, MOV, MKV, WebM or AVI bytes become the pooled vectors [D], or [2 D] for both, of sampled frames.

    Failures: those of `containers.read_frames`.
    """

    name = "frames"
    Settings: ClassVar[type[EncoderSettings]] = FramesSettings
    neutral_settings = frozenset({"encoder", "max_pixels", "refuse_seconds"})  # the inner fingerprint counts instead
    settings: FramesSettings

    @functools.cached_property
    def inner(self) -> ImageEncoder:
        """The picture encoder. Raises SettingsError where it does not exist."""
        made = _inner("image", self.settings.encoder)
        assert isinstance(made, ImageEncoder)
        return made

    @property
    def batch_budget(self) -> int:
        """Frames of one call."""
        return max(self.inner.batch_budget, self.settings.frames)

    def cost(self, example: Any) -> int:
        """Frames."""
        return len(example)

    def _dim(self) -> int:
        return self.inner.dim * (2 if self.settings.pool == "both" else 1)

    def _prepare_one(self, value: Any) -> list[Any]:
        settings = self.settings
        pictures = read_frames(
            value, settings.frames, settings.max_pixels, settings.refuse_seconds, settings.max_decoded
        )
        return [self.inner.prepare_picture(picture) for picture in pictures]

    def _encode(self, examples: list[list[Any]]) -> FloatArray:
        frames = [frame for example in examples for frame in example]
        size = self.inner.batch_budget
        vectors = np.concatenate([self.inner.encode(frames[at : at + size]) for at in range(0, len(frames), size)])
        per_video = np.split(vectors, np.cumsum([len(example) for example in examples])[:-1])
        return np.stack([self._pool(vectors_FD) for vectors_FD in per_video])

    def _pool(self, vectors_FD: FloatArray) -> FloatArray:
        mean_D, max_D = vectors_FD.mean(axis=0), vectors_FD.max(axis=0)
        pooled: FloatArray = {"mean": mean_D, "max": max_D, "both": np.concatenate([mean_D, max_D])}[self.settings.pool]
        return pooled


class SoundtrackSettings(EncoderSettings):
    """Settings of the sound track encoder."""

    encoder: dict[str, Any] = Field(description="The sound encoder: {type: mfcc, …} with its own settings.")
    refuse_seconds: float = Field(14_400.0, gt=0, description="Seconds; longer videos are refused.")


class SoundtrackEncoder(_VideoEncoder):
    """MP4, MOV, MKV, WebM or AVI bytes become the vector [D] of their sound track.

    Failures: those of `containers.read_sound`, and too_short.
    """

    name = "soundtrack"
    Settings: ClassVar[type[EncoderSettings]] = SoundtrackSettings
    neutral_settings = frozenset({"encoder", "refuse_seconds"})  # the inner fingerprint counts instead
    settings: SoundtrackSettings

    @functools.cached_property
    def inner(self) -> AudioEncoder:
        """The sound encoder. Raises SettingsError where it does not exist, or takes no waveforms."""
        made = _inner("audio", self.settings.encoder)
        if not isinstance(made, AudioEncoder):
            raise SettingsError(f"encoder.encoder: {made.name!r} takes no waveforms, so no sound track")
        return made

    @property
    def batch_budget(self) -> int:
        """That of the sound encoder."""
        return self.inner.batch_budget

    def cost(self, example: Any) -> int:
        """That of the sound encoder."""
        return self.inner.cost(example)

    def _dim(self) -> int:
        return self.inner.dim

    def _prepare_one(self, value: Any) -> Any:
        wave = read_sound(value, self.inner.sample_rate, self.inner.settings.max_seconds, self.settings.refuse_seconds)
        return self.inner.prepare_wave(wave)

    def _encode(self, examples: list[Any]) -> FloatArray:
        return self.inner.encode(examples)


def _inner(kind: str, settings: dict[str, Any]) -> Encoder:
    from crossweave.encoders import make_encoder  # the registry names this module

    own = dict(settings)
    if "type" not in own:
        raise SettingsError(f"encoder.encoder: expected the type of an encoder of kind {kind}, got {settings}")
    return make_encoder(kind, str(own.pop("type")), own)
