"""Progress of long work: a bar on a terminal, a line every 30 seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

LINE_EVERY_SECONDS = 30.0
BAR_EVERY_SECONDS = 0.2
log = logging.getLogger(__name__)


class Progress:
    """Shows how far one piece of work is, with rate and time left."""

    def __init__(self, label: str, total: int, unit: str, stream: TextIO | None = None) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._start = time.monotonic()
        self._last = self._start
        self._shown = False

    def update(self, done: int, extra: str = "") -> None:
        """Tell how many units are done so far."""
        now = time.monotonic()
        if now - self._last < (BAR_EVERY_SECONDS if self._terminal else LINE_EVERY_SECONDS):
            return
        self._last = now
        self._show(self._text(done, now, extra))

    def close(self, done: int, extra: str = "") -> None:
        """Finish: clear the bar and leave one line with the total and the rate."""
        seconds = time.monotonic() - self._start
        rate = done / seconds if seconds > 0 else 0.0
        text = f"{self._label}: {done:,} {self._unit} in {seconds:.1f} s ({rate:,.1f}/s){extra and ' · ' + extra}"
        if self._terminal and self._shown:
            self._stream.write("\r\x1b[K")
        self._stream.write(text + "\n")
        self._stream.flush()
        log.info(text)

    def _text(self, done: int, now: float, extra: str) -> str:
        seconds = now - self._start
        rate = done / seconds if seconds > 0 else 0.0
        left = f"{(self._total - done) / rate:,.0f} s left" if rate > 0 and self._total >= done else "…"
        share = done / self._total if self._total else 1.0
        bar = ""
        if self._terminal:
            filled = int(min(1.0, share) * 24)
            bar = "█" * filled + "░" * (24 - filled) + " "
        return (
            f"{self._label} {bar}{min(1.0, share):4.0%} {done:,}/{self._total:,} {self._unit}"
            f" · {rate:,.1f}/s · {left}{extra and ' · ' + extra}"
        )

    def _show(self, text: str) -> None:
        self._shown = True
        self._stream.write(f"\r\x1b[K{text}" if self._terminal else text + "\n")
        self._stream.flush()
