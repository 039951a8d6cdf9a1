"""The run's log: one JSON object a line; ids of users never belong in a message."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from crossweave.redaction import redacted

ROOT = "crossweave"


class JsonLines(logging.Formatter):
    """Formats a record as one JSON line with UTC time, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        if record.exc_info:
            entry["traceback"] = redacted(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


def open_log(path: Path) -> logging.Handler:
    """Send the package's log to a file; returns the handler for `close_log`."""
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(JsonLines())
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False  # Horovod gives the root logger a console
    return handler


def close_log(handler: logging.Handler) -> None:
    """Stop sending the log there."""
    logging.getLogger(ROOT).removeHandler(handler)
    handler.close()
