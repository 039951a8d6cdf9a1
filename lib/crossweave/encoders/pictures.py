"""What every picture encoder shares: its limits, decoding, and the door for pictures that are decoded already."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, final

from PIL import Image
from pydantic import Field

from crossweave.encoders.base import Encoder, EncoderSettings
from crossweave.encoders.stills import decode_image


class ImageSettings(EncoderSettings):
    """Settings of every picture encoder."""

    max_pixels: int = Field(
        50_000_000, ge=1, description="Width times height; larger pictures are refused before decoding, as bombs are."
    )


class ImageEncoder(Encoder):
    """JPEG, PNG or WEBP bytes in; a subclass gives `_prepare_picture`, `_dim` and `_encode`.

    Failures: those of `stills.decode_image`.
    """

    Settings: ClassVar[type[EncoderSettings]] = ImageSettings
    isolated = True
    window = 64
    decoder_version = 1  # pictures are turned as EXIF says
    neutral_settings: ClassVar[frozenset[str]] = frozenset({"max_pixels"})
    settings: ImageSettings

    @property
    def decode_side(self) -> int | None:
        """Pixels below which no side is needed, so that a JPEG may be decoded smaller; None: all of it is needed."""
        return None

    def warm_up(self) -> None:
        """Read what the model's files say of its pictures."""
        _ = self.decode_side

    @final
    def _prepare_one(self, value: Any) -> Any:
        return self._prepare_picture(decode_image(value, self.settings.max_pixels, self.decode_side))

    @final
    def prepare_picture(self, picture: Image.Image) -> Any:
        """One example of an RGB picture that is decoded already, as a video's frames are."""
        return self._prepare_picture(picture)

    @abc.abstractmethod
    def _prepare_picture(self, picture: Image.Image) -> Any:
        """One example of an RGB picture, with Pillow and numpy only: it may run in a process without torch."""
