"""Checks on text and tag values, shared by the text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crossweave.encoders.base import BadValueError


def check_text(value: Any, max_chars: int) -> str:
    """The text itself. Raises BadValueError: wrong_type, empty (blank) or too_long (over `max_chars` characters)."""
    if not isinstance(value, str):
        raise BadValueError("wrong_type", f"A {type(value).__name__} came where a text was expected.")
    if not value or value.isspace():
        raise BadValueError("empty", "The text is blank; at least one visible character was expected.")
    _check_length(len(value), max_chars)
    return value


def check_tags(value: Any, max_chars: int) -> list[str]:
    """The tags that are not blank, trimmed. Raises BadValueError: wrong_type, empty or too_long (all tags together)."""
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray)):
        raise BadValueError("wrong_type", f"A {type(value).__name__} came where a list of tags was expected.")
    tags: list[str] = []
    for tag in value:
        if tag is None:
            continue
        if not isinstance(tag, str):
            raise BadValueError("wrong_type", f"A {type(tag).__name__} came where a tag (a text) was expected.")
        if tag.strip():
            tags.append(tag.strip())
    if not tags:
        raise BadValueError("empty", "The list holds no tag; at least one was expected.")
    _check_length(sum(map(len, tags)), max_chars)
    return tags


def _check_length(length: int, max_chars: int) -> None:
    if length > max_chars:
        raise BadValueError("too_long", f"The text has {length} characters; at most {max_chars} were expected.")
