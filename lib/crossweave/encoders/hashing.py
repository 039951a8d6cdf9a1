"""Text and tags without weights: hashed n-grams through a signed random projection."""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from typing import Any, ClassVar
from zlib import crc32

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from crossweave.encoders.base import BadValueError, Encoder, EncoderSettings, FloatArray
from crossweave.encoders.texts import check_tags, check_text

Features = tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]  # hashes, weights

# A word is a run of anything but spaces, ASCII punctuation and the general and CJK punctuation blocks; so letters
# with combining marks (Hindi, Thai) stay whole, and an emoji is a word. U+200C and U+200D join, so they stay.
_WORD = re.compile(r"[^\s!-/:-@\[-`{-~\u2000-\u200b\u200e-\u206f\u3000-\u303f]+")
_COORDINATES = 4  # that each feature is spread over
_CACHED_WORD = 64  # characters; longer "words" (scripts without spaces) seldom come twice
_CHAR_SHARE = 1.2  # norm of a word's character n-grams relative to the word itself
_PHRASE_SHARE = 0.6  # weight of a word n-gram relative to the mean of its words
_TAG_WORD_SHARE = 1.0  # norm of a tag's words relative to the tag


class HashingSettings(EncoderSettings):
    """Settings of the hashing encoder."""

    dim: int = Field(512, ge=16, le=65536, description="Numbers a vector; more dimensions, fewer collisions.")
    word_ngrams: tuple[int, int] = Field((1, 2), description="Shortest and longest run of words taken as a feature.")
    char_ngrams: tuple[int, int] | None = Field(
        (3, 5), description="Shortest and longest run of characters inside a word; they make misspellings close."
    )
    max_chars: int = Field(1_000_000, ge=1, description="Characters; longer texts are refused, as no item needs them.")

    @model_validator(mode="after")
    def _ranges_ascend(self) -> HashingSettings:
        for name, pair in (("word_ngrams", self.word_ngrams), ("char_ngrams", self.char_ngrams)):
            if pair is not None and not 1 <= pair[0] <= pair[1] <= 8:
                raise ValueError(f"{name} must be [shortest, longest] within 1 to 8, got {list(pair)}")
        return self


class HashingEncoder(Encoder):
    """A text or a list of tags becomes a unit vector [dim]; the same in every process and on every machine.

    Features are weighted (1 + log tf) · w. Without a pass over the corpus there is no idf, so w is a guess at it
    from the word alone: words of few letters are the frequent ones (Zipf's law of abbreviation), hence
    w = min(length, 8) / 8, and at least 3/4 for a word with a digit. The projection is that of Weinberger et al.
    2009 (feature hashing) with four signed coordinates a feature. Failures: wrong_type, empty, too_long.
    """

    name = "hashing"
    code_version = 2
    Settings: ClassVar[type[EncoderSettings]] = HashingSettings
    neutral_settings = frozenset({"max_chars"})
    settings: HashingSettings

    @property
    def batch_budget(self) -> int:
        """Texts of one call."""
        return 1024

    def _dim(self) -> int:
        return self.settings.dim

    def _prepare_one(self, value: Any) -> Features:
        if self.kind == "tags":
            return _merge([_tag_features(_normal(tag)) for tag in check_tags(value, self.settings.max_chars)])
        text = _normal(check_text(value, self.settings.max_chars))
        words = _WORD.findall(text) or text.split()
        char_range = self.settings.char_ngrams
        parts = [
            (_word_features if len(word) <= _CACHED_WORD else _word_features.__wrapped__)(word, char_range)
            for word in words
        ]
        shortest, longest = self.settings.word_ngrams
        if shortest > 1:
            parts = [(hashes[1:], weights[1:]) for hashes, weights in parts]
        features = _merge([*parts, _phrases(words, max(shortest, 2), longest)])
        if not len(features[0]):
            raise BadValueError("empty", f"The text has fewer than the {shortest} words that a feature was to have.")
        return features

    def _encode(self, examples: list[Features]) -> FloatArray:
        return np.stack([_project(hashes, weights, self.settings.dim) for hashes, weights in examples])


def _normal(text: str) -> str:
    """Case and compatibility forms folded (NFKC, casefold): "ＡＢＣ", "Abc" and "abc" are one.

    A byte order mark that a file's first cell kept is no letter.
    """
    if text.isascii():
        return text.lower()
    text = text.lstrip("\ufeff")
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _hash(tag: str, text: str) -> int:
    return crc32(f"{tag}{text}".encode("utf-8", "surrogatepass"))


def _word_weight(word: str) -> float:
    weight = min(len(word), 8) / 8
    return max(weight, 0.75) if any(char.isdigit() for char in word) else weight


@functools.lru_cache(maxsize=50_000)
def _word_features(word: str, char_range: tuple[int, int] | None) -> Features:
    """The word itself (first), then its character n-grams with the word's edges marked."""
    weight = _word_weight(word)
    hashes = [_hash("w", word)]
    if char_range is not None:
        marked = f"<{word}>"
        hashes += [
            _hash("c", marked[start : start + size])
            for size in range(char_range[0], char_range[1] + 1)
            for start in range(len(marked) - size + 1)
        ]
    weights = np.full(len(hashes), weight, dtype=np.float32)
    # Sixteen at most in the divisor: a sentence without spaces is one "word", all of it in its n-grams.
    weights[1:] *= _CHAR_SHARE / math.sqrt(min(max(len(hashes) - 1, 1), 16))
    return np.array(hashes, dtype=np.uint32), weights


def _phrases(words: list[str], shortest: int, longest: int) -> Features:
    hashes: list[int] = []
    weights: list[float] = []
    for size in range(shortest, longest + 1):
        for start in range(len(words) - size + 1):
            run = words[start : start + size]
            hashes.append(_hash("p", " ".join(run)))
            weights.append(_PHRASE_SHARE * sum(map(_word_weight, run)) / size)
    return np.array(hashes, dtype=np.uint32), np.array(weights, dtype=np.float32)


@functools.lru_cache(maxsize=50_000)
def _tag_features(tag: str) -> Features:
    words = _WORD.findall(tag)
    share = _TAG_WORD_SHARE / math.sqrt(max(len(words), 1))
    hashes = [_hash("t", " ".join(tag.split())), *(_hash("w", word) for word in words)]
    weights = [1.0, *(share * _word_weight(word) for word in words)]
    return np.array(hashes, dtype=np.uint32), np.array(weights, dtype=np.float32)


def _merge(parts: list[Features]) -> Features:
    """Each feature once, weighing its mean weight × (1 + log of how often it came)."""
    hashes = np.concatenate([part[0] for part in parts])
    weights = np.concatenate([part[1] for part in parts])
    unique, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    mean = np.bincount(inverse, weights, len(unique)) / counts
    return unique, (mean * (1 + np.log(counts))).astype(np.float32)


def _project(hashes: npt.NDArray[np.uint32], weights: npt.NDArray[np.float32], dim: int) -> FloatArray:
    """The features' weighted sum as a unit vector: each adds ±weight at four places that its hash decides."""
    places_CF, signs_CF = _places(hashes, dim)
    vector_D = np.bincount(places_CF.ravel(), (signs_CF * weights).ravel(), dim)
    norm = math.sqrt(float(vector_D @ vector_D))
    if norm < 1e-12:  # signs that cancel to nothing: one place in dim is better than a vector of zeros
        vector_D[int(places_CF[0, 0])] = norm = 1.0
    return (vector_D / norm).astype(np.float32)


def _places(hashes: npt.NDArray[np.uint32], dim: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Coordinates and signs [4, features] from a mixed hash (splitmix64: CRC-32 alone is linear)."""
    offsets_C = np.arange(1, _COORDINATES + 1, dtype=np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
    mixed = hashes.astype(np.uint64)[None, :] * np.uint64(0xD1342543DE82EF95) + offsets_C
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    signs = 1.0 - 2.0 * (mixed & np.uint64(1)).astype(np.float64)
    return ((mixed >> np.uint64(1)) % np.uint64(dim)).astype(np.int64), signs
