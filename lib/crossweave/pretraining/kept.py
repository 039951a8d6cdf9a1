"""What a corpus keeps of a content: enough to learn from it in every epoch, small enough to lie beside thousands."""

from __future__ import annotations

import abc
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np
from PIL import Image

from crossweave.encoders.base import Prepared, failure_of, refuse_none
from crossweave.encoders.neural import TrainableEncoder
from crossweave.encoders.pictures import ImageEncoder
from crossweave.encoders.sounds import AudioEncoder
from crossweave.encoders.stills import decode_image

QUALITY = 90
"""Of the JPEG that a picture is kept as."""
MOST_SIDES = 8
"""Of the side that the encoder needs: a picture that is longer is made smaller still."""
MOST_SECONDS = 10
"""Of a sound: its beginning, by which an hour of learning hears more of them."""

E = TypeVar("E", bound=TrainableEncoder)


class Kept(abc.ABC, Generic[E]):
    """Contents as bytes, and the examples that an encoder collates from those."""

    def __init__(self, encoder: E) -> None:
        self.encoder = encoder

    @property
    def isolated(self) -> bool:
        """Whether `prepare` belongs in a decoder process."""
        return self.encoder.isolated

    def warm_up(self) -> None:
        """Import and read what `prepare` needs."""
        self.encoder.warm_up()

    @abc.abstractmethod
    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Turn contents into bytes; what the encoder would refuse becomes a failure."""

    @abc.abstractmethod
    def example(self, data: bytes) -> Any:
        """Return the example of what was kept."""


class KeptTexts(Kept[TrainableEncoder]):
    """Token ids, int32."""

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Tokenise."""
        prepared = self.encoder.prepare(values)
        return replace(prepared, examples=[np.asarray(ids, "<i4").tobytes() for ids in prepared.examples])

    def example(self, data: bytes) -> np.ndarray:
        """Return the ids."""
        return np.frombuffer(data, "<i4")


class KeptSounds(Kept[Any]):
    """The first seconds of waves as the encoder prepares them, float16."""

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Decode and resample."""
        prepared, most = self.encoder.prepare(values), MOST_SECONDS * self.encoder.sample_rate
        return replace(prepared, examples=[np.asarray(wave[:most], "<f2").tobytes() for wave in prepared.examples])

    def example(self, data: bytes) -> np.ndarray:
        """Return the wave, float32."""
        return np.frombuffer(data, "<f2").astype(np.float32)


class KeptPictures(Kept[Any]):
    """Whole pictures as JPEG, their shorter side as long as the encoder needs it: views are cut from them."""

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Decode, make smaller, and compress."""
        prepared = Prepared([], [], [])
        for position, value in enumerate(values):
            refuse_none(position, value)
            try:
                prepared.examples.append(self._compressed(value))
            except Exception as error:
                prepared.failures.append(failure_of(position, error))
            else:
                prepared.positions.append(position)
        return prepared

    def _compressed(self, value: Any) -> bytes:
        side = self.encoder.decode_side
        picture = decode_image(value, self.encoder.settings.max_pixels, side)
        scale = 1.0 if side is None else min(1.0, side / min(picture.size), MOST_SIDES * side / max(picture.size))
        width, height = (max(1, round(size * scale)) for size in picture.size)
        stream = io.BytesIO()
        picture.resize((width, height), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=QUALITY)
        return stream.getvalue()

    def picture(self, data: bytes) -> Image.Image:
        """Return the picture, RGB; its bytes are our own."""
        return Image.open(io.BytesIO(data)).convert("RGB")

    def example(self, data: bytes) -> Any:
        """Return what the encoder sees of the whole picture."""
        return self.encoder.prepare_picture(self.picture(data))


def kept_by(encoder: TrainableEncoder) -> Kept[Any]:
    """Return how a corpus keeps what an encoder learns from."""
    if isinstance(encoder, ImageEncoder):
        return KeptPictures(encoder)
    return KeptSounds(encoder) if isinstance(encoder, AudioEncoder) else KeptTexts(encoder)
