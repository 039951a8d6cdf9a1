"""What a process does when it is told to stop: it ends its work, says so in the record, and is gone within seconds.

The first SIGTERM, SIGINT or SIGHUP raises `Stopped` in the main thread. That alone would not do: the thread may be in
C code, or wait for the JVM, and what it has to clear away may wait for Spark again. So a second thread, woken by the
same signal, cancels Spark's jobs at once; after `GRACE_SECONDS` it has the last words written and ends the process.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_SECONDS = 8.0  # schedulers kill after 10 or more
IMPATIENT_SECONDS = 2.0  # between two signals that are two wishes, not one that came twice
LAST_SECONDS = 3.0  # for each thing that is done at the very end
STOPPED = 75


class Stopped(KeyboardInterrupt):
    """A signal told this process to stop."""


class _Stopping:
    """The state of the one process."""

    def __init__(self) -> None:
        self.by = 0  # the first signal
        self.raised = self.deferred = False
        self.last_words: Callable[[], int] = lambda: STOPPED

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Raise in the main thread, once."""
        self.by = self.by or number
        if not self.raised and not self.deferred:
            self.raised = True
            raise Stopped(signal.Signals(number).name)


_state: _Stopping | None = None


def stopped_by() -> str:
    """Return the name of the signal that told this process to stop; empty where none did."""
    return signal.Signals(_state.by).name if _state is not None and _state.by else ""


@contextmanager
def stoppable() -> Iterator[None]:
    """Hear signals while the body runs. Within another such body, or outside the main thread, it changes nothing."""
    global _state
    if _state is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _state = state = _Stopping()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number in SIGNALS if before[number] != signal.SIG_IGN]  # nohup, and shells in the background
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, state), name="stopping", daemon=True)
    watcher.start()
    try:
        for number in heard:
            signal.signal(number, state.hear)
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
        signal.set_wakeup_fd(woken)
        os.close(writer)  # the watcher reads the end
        watcher.join()
        os.close(reader)
        _state = None


def too_late(last_words: Callable[[], int]) -> None:
    """Let signals raise nothing from here on: how it ended is known, and only to be put down."""
    if _state is not None:
        _state.deferred, _state.last_words = True, last_words


def leave_word(last_words: Callable[[], int]) -> None:
    """Say what to write, and the exit code, where the process must be ended before its main thread is done."""
    if _state is not None:
        _state.last_words = last_words


def _watch(reader: int, state: _Stopping) -> None:
    first = 0.0
    while True:
        left = max(0.0, first + GRACE_SECONDS - time.monotonic()) if first else None
        ready, _, _ = select.select([reader], [], [], left)
        told = os.read(reader, 64) if ready else b""
        if ready and not told:
            return
        if not ready:
            break
        if not any(number in SIGNALS for number in told):
            continue
        if not first:
            first, state.by = time.monotonic(), state.by or next(n for n in told if n in SIGNALS)
            threading.Thread(target=_cancel_spark, daemon=True, name="cancelling").start()
        elif time.monotonic() - first > IMPATIENT_SECONDS:
            break
    codes = [STOPPED]
    within(LAST_SECONDS, lambda: codes.append(state.last_words()))
    end_now(codes[-1])


def _cancel_spark() -> None:
    """Cancel Spark's jobs, by a connection of this thread's own: the main thread's is taken."""
    spark = sys.modules.get("pyspark")
    context = spark.SparkContext._active_spark_context if spark is not None else None
    if context is not None:
        with suppress(Exception):
            context.cancelAllJobs()


def end_now(code: int) -> None:
    """End the process with this code and nothing else: no destructors, no threads waited for.

    A short process that has read or written a dataset with pyarrow 14 may abort (SIGABRT, "terminate called without an
    active exception") in what the interpreter and its C++ libraries do at their end, long after its work was done.
    """
    for stream in (sys.stdout, sys.stderr):
        within(LAST_SECONDS, stream.flush)  # nobody may be reading, and the main thread may hold it
    os._exit(code)


def within(seconds: float, work: Callable[[], object]) -> None:
    """Do something, whatever it raises, but wait for it no longer than this."""

    def quietly() -> None:
        with suppress(BaseException):
            work()

    thread = threading.Thread(target=quietly, daemon=True, name="at-the-end")
    thread.start()
    thread.join(seconds)
