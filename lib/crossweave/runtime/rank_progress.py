"""Shows how far ranks are, by the lines that their rank 0 writes, one an epoch."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from crossweave.runtime.progress import Progress
from crossweave.storage.location import Location

LOOK_SECONDS = 0.5  # between two looks

log = logging.getLogger(__name__)


@contextmanager
def followed(lines: Location, progress: Progress, shown: Callable[[Mapping[str, Any]], str]) -> Iterator[None]:
    """Follow the file of lines while the body runs; `shown` says what of a line is shown beside the epoch."""
    done = threading.Event()
    epochs = 0

    def follow() -> None:
        nonlocal epochs
        seen, ended, last = 0, False, dict[str, Any]()  # what an epoch does not say is as it was
        while not ended:
            ended = done.wait(LOOK_SECONDS)  # and once more after the end
            found = lines.text().splitlines() if lines.is_file() else []
            for entry in map(json.loads, found[seen:]):
                if "warning" in entry:
                    log.warning(entry["warning"])
                    continue
                last |= entry
                epochs = last["epoch"]
                progress.update(epochs, shown(last))
            seen = len(found)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        progress.close(epochs)
