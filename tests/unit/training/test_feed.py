from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from crossweave.training.feed import one_ahead


def test_items_come_in_order_and_one_is_drawn_while_another_is_used() -> None:
    drawn: list[int] = []

    def source() -> Iterator[int]:
        for number in range(4):
            drawn.append(number)
            yield number

    items = one_ahead(source())
    assert next(items) == 0
    deadline = time.monotonic() + 5
    while drawn != [0, 1] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert drawn == [0, 1]
    assert list(items) == [1, 2, 3]


def test_an_error_of_the_source_is_raised_after_the_items_before_it_and_no_thread_stays() -> None:
    def source() -> Iterator[int]:
        yield 7
        raise OSError("gone")

    items = one_ahead(source())
    assert next(items) == 7
    with pytest.raises(OSError, match="gone"):
        next(items)
    half_read = one_ahead(iter([1, 2, 3]))
    next(half_read)
    half_read.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("feed")]
