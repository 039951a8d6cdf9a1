"""Does the next piece of work on a thread while the caller still uses the last one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")
_POLL_SECONDS = 0.1


def ahead(source: Iterable[T], depth: int = 1) -> Generator[T, None, None]:
    """The items of `source` in their order, drawn on a thread of its own, at most `depth` waiting.

    What the source raises is raised here, after the items before it. A caller that stops early stops the thread.
    """
    waiting: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(kind: str, item: T | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                waiting.put((kind, item), timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def draw() -> None:
        try:
            for item in source:
                if not put("item", item):
                    return
        except BaseException as error:
            put("error", error)
        else:
            put("end", None)

    thread = threading.Thread(target=draw, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = waiting.get()
            if kind == "end":
                return
            if isinstance(item, BaseException) and kind == "error":
                raise item
            yield item  # type: ignore[misc]  # of kind "item": a T
    finally:
        stopped.set()
        thread.join()
