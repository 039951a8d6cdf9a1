"""Texts and tags through static word vectors from a file: word2vec (text or binary) or GloVe.

Letters in names: V words of the file, D the vectors' length, W known words of one value.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from crossweave.encoders.base import BadValueError, Encoder, EncoderSettings, FloatArray
from crossweave.encoders.texts import check_tags, check_text
from crossweave.encoders.weights import hash_files, require_file
from crossweave.encoders.word_files import read_dim, read_words

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_WORDS_KEPT = 50_000  # of the learned frequencies; rarer words weigh nearly 1 anyway


class Word2vecSettings(EncoderSettings):
    """Settings of the static word vector encoder."""

    path: Path = Field(description="word2vec (.bin, or text with a header line) or GloVe text file; hashed.")
    lowercase: bool = Field(True, description="Look words up in lower case, as most files have them.")
    sif: float = Field(
        0.001, ge=0, description="a of the weight a / (a + p(word)) that damps frequent words; 0: a plain mean."
    )
    remove_common: bool = Field(True, description="Remove the direction that the catalog's vectors share.")
    max_chars: int = Field(1_000_000, ge=1, description="Characters; longer texts are refused, as no item needs them.")


class Word2vecEncoder(Encoder):
    """A text, or tags, becomes the weighted mean [D] of its known words' vectors.

    Smooth inverse frequency (Arora, Liang & Ma 2017): word frequencies and the common direction are learned from the
    catalog. Failures: wrong_type, empty, too_long, no_known_word. Raises SettingsError where the file is torn.
    """

    name = "word2vec"
    code_version = 2
    Settings: ClassVar[type[EncoderSettings]] = Word2vecSettings
    neutral_settings = frozenset({"path", "max_chars"})
    learns = True
    settings: Word2vecSettings

    @property
    def batch_budget(self) -> int:
        """Texts of one call."""
        return 1024

    def _dim(self) -> int:
        return read_dim(self.settings.path)

    def _weights_hash(self) -> str:
        return hash_files([("vectors", require_file(self.settings.path, "encoder.path"))])

    def _fit(self, values: Iterable[Any]) -> Mapping[str, Any]:
        counts: Counter[str] = Counter()
        texts = []
        for value in values:
            try:
                words = self._words(value)
            except BadValueError:
                continue
            counts.update(words)
            texts.append(words)
        total = max(1, counts.total())
        frequencies = {word: count / total for word, count in sorted(counts.items(), key=lambda c: (-c[1], c[0]))}
        frequencies = dict(list(frequencies.items())[:_WORDS_KEPT])
        learned: dict[str, Any] = {"frequencies": frequencies, "common": None}
        if self.settings.remove_common and texts:
            self.restore(learned)
            self._load("cpu")
            rows = [self._mean(words) for words in map(self._known, texts) if words]
            if rows:
                # The first right singular vector of the texts' vectors, as the paper removes it.
                direction = np.linalg.svd(np.stack(rows), full_matrices=False)[2][0]
                direction *= np.sign(direction[np.argmax(np.abs(direction))])  # its sign is arbitrary
                learned["common"] = [round(float(number), 7) for number in direction]
        return learned

    def _prepare_one(self, value: Any) -> list[str]:
        known = self._known(self._words(value))
        if not known:
            raise BadValueError("no_known_word", "No word of the text has a vector in the file.")
        return known

    def _words(self, value: Any) -> list[str]:
        limit = self.settings.max_chars
        text = " ".join(check_tags(value, limit)) if self.kind == "tags" else check_text(value, limit)
        text = unicodedata.normalize("NFKC", text)
        return _WORD.findall(text.lower() if self.settings.lowercase else text)

    def _known(self, words: list[str]) -> list[str]:
        index = self._vocabulary[0]
        return [word for word in words if word in index]

    @functools.cached_property
    def _vocabulary(self) -> tuple[dict[str, int], FloatArray]:
        """The words' rows, and their vectors [V, D]."""
        return read_words(self.settings.path)

    def _load(self, device: str) -> None:
        _ = self._vocabulary

    def _mean(self, words: list[str]) -> FloatArray:
        index, vectors_VD = self._vocabulary
        rows_WD = vectors_VD[[index[word] for word in words]]
        if not self.settings.sif:
            mean: FloatArray = rows_WD.mean(axis=0)
            return mean
        frequencies = self.learned["frequencies"]
        weights_W = np.array(
            [self.settings.sif / (self.settings.sif + frequencies.get(word, 0.0)) for word in words], dtype=np.float32
        )
        weighted: FloatArray = weights_W @ rows_WD / len(words)
        return weighted

    def _encode(self, examples: list[list[str]]) -> FloatArray:
        vectors_BD = np.stack([self._mean(words) for words in examples])
        if self.learned["common"] is not None:
            common_D = np.asarray(self.learned["common"], dtype=np.float32)
            vectors_BD = vectors_BD - (vectors_BD @ common_D)[:, None] * common_D
        return vectors_BD
