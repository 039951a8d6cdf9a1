"""Vectors that the catalog already holds: checked and passed through."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from crossweave.encoders.base import BadValueError, Encoder, EncoderSettings, FloatArray


class ColumnSettings(EncoderSettings):
    """Settings of a column of ready-made vectors."""

    dim: int = Field(ge=1, le=65536, description="Numbers a vector; declared, so that a ragged column is noticed.")


class ColumnEncoder(Encoder):
    """A list or array of `dim` numbers becomes that vector in float32; zeros are fine.

    Failures: wrong_type, wrong_dim, non_finite (also numbers beyond float32's range).
    """

    name = "column"
    Settings: ClassVar[type[EncoderSettings]] = ColumnSettings
    settings: ColumnSettings

    @property
    def batch_budget(self) -> int:
        """Rows of one call."""
        return 4096

    def _dim(self) -> int:
        return self.settings.dim

    def _prepare_one(self, value: Any) -> FloatArray:
        if isinstance(value, (str, bytes)):
            raise BadValueError("wrong_type", f"A {type(value).__name__} came where a vector was expected.")
        try:
            raw = np.asarray(value)
            with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused below
                vector_D = raw.astype(np.float32)
        except (TypeError, ValueError):
            raise BadValueError("wrong_type", "The vector holds something that is not a number.") from None
        if raw.dtype.kind not in "fiuO":
            raise BadValueError("wrong_type", f"The vector holds {raw.dtype} where numbers were expected.")
        if vector_D.shape != (self.settings.dim,):
            came = len(vector_D) if vector_D.ndim == 1 else "x".join(map(str, vector_D.shape)) or "1 bare"
            raise BadValueError("wrong_dim", f"The vector has {came} numbers; {self.settings.dim} were expected.")
        if not np.isfinite(vector_D).all():
            bad = int((~np.isfinite(vector_D)).sum())
            raise BadValueError("non_finite", f"{bad} of {len(vector_D)} numbers are NaN, infinite or null.")
        return vector_D

    def _encode(self, examples: list[FloatArray]) -> FloatArray:
        return np.stack(examples)
