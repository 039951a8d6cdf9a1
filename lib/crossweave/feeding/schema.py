"""The Petastorm datasets, declared once: the two of a tensor set, and the two of a corpus.

*Item tensors*: one row an item. *Sequence tensors*: one row a user's sequence of training interactions (a long
history takes several rows); which of its items are shown and which are targets is drawn anew in every epoch.
*Contents*: one row a content that an encoder learns from. *Taken*: one row a user, with the contents of what they took.
Vectors and sequences are raw little-endian bytes: a row group becomes an array by one np.frombuffer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from petastorm.codecs import ScalarCodec
from petastorm.unischema import Unischema, UnischemaField
from pyspark.sql.types import BinaryType, BooleanType, FloatType, IntegerType

SEQUENCE_FIELDS: dict[str, np.dtype[Any]] = {
    "items": np.dtype("<i4"),
    "weights": np.dtype("<f4"),
    "times": np.dtype("<i8"),
}
"""Parallel arrays of a sequence, oldest first: item index, weight, seconds since 1970 (-1: unknown)."""

SEQUENCES = Unischema(
    "sequences",
    [
        UnischemaField("user_index", np.int32, (), ScalarCodec(IntegerType()), False),
        # The codes (int32) of the user's attributes, in the order of the manifest's vocabulary.
        UnischemaField("attributes", np.bytes_, (), ScalarCodec(BinaryType()), False),
        *[UnischemaField(name, np.bytes_, (), ScalarCodec(BinaryType()), False) for name in SEQUENCE_FIELDS],
        # The user's validation items (int32), in the row of the user's latest sequence only.
        UnischemaField("held_out", np.bytes_, (), ScalarCodec(BinaryType()), False),
    ],
)


def items_schema(modalities: Iterable[str]) -> Unischema:
    """Return the schema of item tensors for these modalities."""
    fields = [
        UnischemaField("item_index", np.int32, (), ScalarCodec(IntegerType()), False),
        UnischemaField("popularity", np.float32, (), ScalarCodec(FloatType()), False),  # training interactions
        UnischemaField("candidate", np.bool_, (), ScalarCodec(BooleanType()), False),  # may be recommended
    ]
    for name in modalities:
        fields.append(UnischemaField(vector_field(name), np.bytes_, (), ScalarCodec(BinaryType()), False))
        fields.append(UnischemaField(present_field(name), np.bool_, (), ScalarCodec(BooleanType()), False))
    return Unischema("items", fields)


def vector_field(modality: str) -> str:
    """Name the column of a modality's vector bytes (float16; all zero where it is missing)."""
    return f"vector_{modality}"


def present_field(modality: str) -> str:
    """Name the column that says whether an item has the modality."""
    return f"present_{modality}"


POSITIONS = np.dtype("<i4")
CONTENTS = Unischema(
    "contents",
    [
        UnischemaField("position", np.int32, (), ScalarCodec(IntegerType()), False),  # from 0, in a drawn order
        UnischemaField(
            "content", np.bytes_, (), ScalarCodec(BinaryType()), False
        ),  # as the encoder that learns keeps it
        UnischemaField("target", np.bytes_, (), ScalarCodec(BinaryType()), False),  # a vector, float32; empty: none
        UnischemaField("held_out", np.bool_, (), ScalarCodec(BooleanType()), False),  # judged by, not learned from
    ],
)
TAKEN = Unischema(
    "taken",
    [
        UnischemaField("position", np.int32, (), ScalarCodec(IntegerType()), False),  # of the user, in a drawn order
        UnischemaField("contents", np.bytes_, (), ScalarCodec(BinaryType()), False),  # positions, ascending
        UnischemaField("held_out", np.bool_, (), ScalarCodec(BooleanType()), False),
    ],
)
