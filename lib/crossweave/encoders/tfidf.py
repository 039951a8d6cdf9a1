"""Tags as a weighted multi-hot vector: one number a tag of the catalog's vocabulary."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from crossweave.encoders.base import BadValueError, Encoder, EncoderSettings, FloatArray
from crossweave.encoders.texts import check_tags


class TfidfSettings(EncoderSettings):
    """Settings of the TF-IDF encoder."""

    max_tags: int = Field(1024, ge=1, le=32768, description="Tags of the vocabulary, the most frequent first.")
    min_items: int = Field(1, ge=1, description="Tags that fewer items hold stay outside the vocabulary.")
    spare: int = Field(
        32, ge=0, le=4096, description="Numbers that all other tags share, by hash; 0: other tags add nothing."
    )
    lowercase: bool = Field(True, description="Take tags that differ in case only as one.")
    normalize: bool = Field(True, description="Scale vectors to length 1.")
    max_chars: int = Field(100_000, ge=1, description="Characters of all tags together; longer lists are refused.")


class TfidfEncoder(Encoder):
    """A list of tags becomes a vector [max_tags + spare]: at each tag of the vocabulary ln((1 + n) / (1 + df)) + 1.

    n items and df of them with the tag are learned from the catalog (smoothed as scikit-learn documents it); a tag
    that was not there then adds the weight of an unseen one to one of `spare` numbers, or nothing where `spare` is 0
    (names: each of many rare ones would outweigh those that items share, and of those that one item alone holds no two
    items have any in common: `min_items` 2 leaves them out). Repeated tags count once.
    Failures: wrong_type, empty, too_long.
    """

    name = "tfidf"
    Settings: ClassVar[type[EncoderSettings]] = TfidfSettings
    neutral_settings = frozenset({"max_chars"})
    learns = True
    settings: TfidfSettings

    def _dim(self) -> int:
        return self.settings.max_tags + self.settings.spare

    def _fit(self, values: Iterable[Any]) -> Mapping[str, Any]:
        counts: Counter[str] = Counter()
        lists = 0
        for value in values:
            try:
                counts.update(self._prepare_one(value))
            except BadValueError:
                continue
            lists += 1
        shared = [item for item in counts.items() if item[1] >= self.settings.min_items]
        ranked = sorted(shared, key=lambda item: (-item[1], item[0]))[: self.settings.max_tags]
        return {"lists": lists, "tags": [[tag, count] for tag, count in ranked]}

    def _prepare_one(self, value: Any) -> list[str]:
        tags = check_tags(value, self.settings.max_chars)
        return sorted({tag.lower() if self.settings.lowercase else tag for tag in tags})

    def _load(self, device: str) -> None:
        lists = self.learned["lists"]
        self._weights = {
            tag: (row, math.log((1 + lists) / (1 + count)) + 1) for row, (tag, count) in enumerate(self.learned["tags"])
        }
        self._unseen = math.log(1 + lists) + 1

    def _encode(self, examples: list[list[str]]) -> FloatArray:
        vectors_BD = np.zeros((len(examples), self.dim), dtype=np.float32)
        for row, tags in enumerate(examples):
            for tag in tags:
                if (known := self._weights.get(tag)) is not None:
                    vectors_BD[row, known[0]] += known[1]
                elif self.settings.spare:
                    vectors_BD[row, self._spare_column(tag)] += self._unseen
        if self.settings.normalize:
            length_B1 = np.linalg.norm(vectors_BD, axis=1, keepdims=True)
            vectors_BD /= np.maximum(length_B1, np.finfo(np.float32).tiny)
        return vectors_BD

    def _spare_column(self, tag: str) -> int:
        digest = hashlib.blake2b(tag.encode("utf-8", "replace"), digest_size=8).digest()
        return self.settings.max_tags + int.from_bytes(digest, "little") % self.settings.spare
