"""The process of a job: the one place where it begins and ends. Imports nothing that takes time or may fail."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from crossweave.redaction import redacted
from crossweave.runtime.stopping import STOPPED, end_now, stoppable, stopped_by, too_late, within

Main = Callable[[Sequence[str]], int]
Say = Callable[[str], None]
SPARK_SECONDS = 10.0  # to stop Spark at the end; what is left of it then ends with this process
PARENT_SECONDS = 0.5  # between two looks at whether spark-submit is still there


def start(main: Main, say: Say) -> NoReturn:
    """Run a job's main with the words of the command line and end the process with the code it returns.

    However it goes, there is no traceback on the screen, and the code is one of errors.py.
    """
    _open_screen()
    logging.raiseExceptions = False  # a log that cannot be written must not write about it on the screen
    root = logging.getLogger()  # py4j logs every lost call there, with a traceback, and raises it as well
    root.addHandler(logging.NullHandler())
    root.addFilter(lambda record: not record.exc_info)
    threading.excepthook = _note_thread  # Horovod's threads end by exceptions that its caller hears of anyway
    sys.unraisablehook = lambda unraisable: None
    with stoppable():
        _follow_spark_submit()
        code = _code_of(main, say)
        too_late(lambda: code)
        _stop_spark()
        end_now(code)
    raise AssertionError("the process has ended")


def _code_of(main: Main, say: Say) -> int:
    try:
        return main(sys.argv[1:])
    except SystemExit as error:  # argparse, after --help
        return error.code if isinstance(error.code, int) else 2 * (error.code is not None)
    except BaseException as error:
        return _refused(error, say)


def _refused(error: BaseException, say: Say) -> int:
    """Say in a sentence why a job ends without a record; returns its exit code."""
    if stopped_by() or isinstance(error, KeyboardInterrupt):
        say(f"failed (exit {STOPPED}): stopped by a signal ({stopped_by() or 'SIGINT'}) outside a run")
        return STOPPED
    if isinstance(error, ImportError):
        say(f"failed (exit 2): {error}")
        say("what to do: run ./submit.sh doctor, which checks what is installed")
        return 2
    from crossweave.runtime.job import refuse

    return refuse(error, say)


def _note_thread(arguments: threading.ExceptHookArgs) -> None:
    name = arguments.thread.name if arguments.thread is not None else "?"
    error = arguments.exc_value
    if error is not None:
        logging.getLogger("crossweave").warning("thread %s ended by %s", name, type(error).__name__, exc_info=error)


def _stop_spark() -> None:
    """Stop the session, where there is one, so that a cluster sees it end well."""
    spark = sys.modules.get("pyspark")
    context = spark.SparkContext._active_spark_context if spark is not None else None
    if context is None:
        return
    within(SPARK_SECONDS, context.stop)


def _follow_spark_submit() -> None:
    """End with spark-submit's JVM, where that started this process: a stop that reaches it alone is meant for both."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="spark-submit").start()


class _Screen(io.TextIOWrapper):
    """A stream of text that may be read by nobody, or by somebody who knows few letters: writing to it never fails.

    No secret passes it.
    """

    def write(self, text: str) -> int:
        """Write, or drop what cannot be written any more."""
        try:
            return super().write(redacted(text))
        except OSError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        """Flush, or drop what cannot be written any more."""
        try:
            super().flush()
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def _open_screen() -> None:
    """Give the process its three streams: open, however it was started, and able to write any letter."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would be the screen
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, name)
        encoding = getattr(before, "encoding", None) or "utf-8"
        raw = open(number, "wb", closefd=False)  # noqa: SIM115
        setattr(sys, name, _Screen(raw, encoding=encoding, errors="backslashreplace", line_buffering=True))
