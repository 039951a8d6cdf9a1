"""Dot: the plain inner product."""

from __future__ import annotations

from crossweave.alignment.heads.base import Head


class Dot(Head):
    """s = u · t + b."""
