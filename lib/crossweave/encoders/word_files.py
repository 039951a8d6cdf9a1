"""Files of word vectors: word2vec's text and binary formats, and GloVe's text, plain or gzipped.

Letters in names: V words, D the vectors' length.
"""

from __future__ import annotations

import codecs
import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from crossweave.encoders.base import FloatArray
from crossweave.encoders.weights import require_file
from crossweave.errors import SettingsError

_WHAT = "encoder.path"
_LONGEST_WORD = 1000  # bytes; a binary file read as text has none this short
_LARGEST_DIM = 4096


def read_dim(path: Path) -> int:
    """Length of the file's vectors, from its first lines. Raises SettingsError where the file is missing or torn."""
    with _opened(path) as stream:
        first = _line(stream, path)
        header = _header(first)
        return header[1] if header else len(first.split()) - 1


def read_words(path: Path) -> tuple[dict[str, int], FloatArray]:
    """Row of each word, and the vectors float32 [V, D]; of a word that comes twice the first counts.

    Raises SettingsError where the file is missing, torn, or holds a number that is not finite.
    """
    with _opened(path) as stream:
        first = _line(stream, path)
        header = _header(first)
        binary = ".bin" in path.suffixes
        if binary and header is None:
            raise SettingsError(f"{_WHAT}: {str(path)!r} does not begin with the counts of a word2vec file")
        if binary and header is not None:
            words, vectors_VD = _read_binary(stream, path, *header)
        else:
            words, vectors_VD = _read_text(stream, path, None if header else first, header)
    if not np.isfinite(vectors_VD).all():
        bad = words[int(np.flatnonzero(~np.isfinite(vectors_VD).all(axis=1))[0])]
        raise SettingsError(f"{_WHAT}: the vector of {bad!r} in {str(path)!r} holds NaN or infinity")
    index: dict[str, int] = {}
    for row, word in enumerate(words):
        index.setdefault(word, row)
    return index, vectors_VD


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    require_file(path, _WHAT)
    try:
        with path.open("rb") as plain:
            packed: Any = gzip.GzipFile(fileobj=plain) if path.suffix == ".gz" else plain
            yield packed
    except (EOFError, gzip.BadGzipFile) as error:
        raise SettingsError(f"{_WHAT}: {str(path)!r} is not a whole gzip file ({error})") from error


def _line(stream: IO[bytes], path: Path) -> bytes:
    line = stream.readline(_LONGEST_WORD + 32 * _LARGEST_DIM).removeprefix(codecs.BOM_UTF8)
    if len(line.split()) < 2:
        raise SettingsError(f"{_WHAT}: {str(path)!r} does not begin as a file of word vectors does")
    return line


def _header(line: bytes) -> tuple[int, int] | None:
    """(words, length of a vector) where the line is word2vec's header; None: it is a word and its vector."""
    parts = line.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or not 1 <= int(parts[1]) <= _LARGEST_DIM:
        return None
    return int(parts[0]), int(parts[1])


def _read_text(
    stream: IO[bytes], path: Path, first: bytes | None, header: tuple[int, int] | None
) -> tuple[list[str], FloatArray]:
    words: list[str] = []
    rows: list[FloatArray] = []
    dim = header[1] if header else len((first or b"").split()) - 1
    lines = [first] if first is not None else []
    for number, line in enumerate((*lines, *stream), start=1 if first is not None else 2):
        parts = line.rstrip(b"\r\n ").rsplit(b" ", dim)  # a word itself may hold spaces
        if not line.strip():
            continue
        try:
            if len(parts) != dim + 1:
                raise ValueError(f"{len(parts) - 1} numbers instead of {dim}")
            rows.append(np.array(parts[1:], dtype=np.float32))
        except ValueError as error:
            raise SettingsError(f"{_WHAT}: line {number} of {str(path)!r} cannot be read ({error})") from error
        words.append(parts[0].decode("utf-8", "replace"))
    if header and header[0] != len(words):
        raise SettingsError(f"{_WHAT}: {str(path)!r} announces {header[0]} words and holds {len(words)}")
    return words, np.stack(rows)


def _read_binary(stream: IO[bytes], path: Path, count: int, dim: int) -> tuple[list[str], FloatArray]:
    """Each entry is a word, one space, and the numbers as little-endian float32; a line break may follow."""
    content = stream.read()
    if count * (4 * dim + 2) > len(content) + count:
        raise SettingsError(f"{_WHAT}: {str(path)!r} is too short for the {count} words it announces")
    words: list[str] = []
    vectors_VD = np.empty((count, dim), dtype=np.float32)
    at = 0
    for row in range(count):
        end = content.find(b" ", at, at + _LONGEST_WORD)
        start = end + 1
        if end < 0 or start + 4 * dim > len(content):
            raise SettingsError(f"{_WHAT}: {str(path)!r} ends, or is torn, at word {row + 1} of {count}")
        words.append(content[at:end].lstrip(b"\n").decode("utf-8", "replace"))
        vectors_VD[row] = np.frombuffer(content, "<f4", dim, start)
        at = start + 4 * dim
    return words, vectors_VD
