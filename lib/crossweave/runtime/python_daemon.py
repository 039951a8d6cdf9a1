"""What Spark forks its Python workers from in local mode, where their standard error is the user's screen.

Horovod's tasks copy the ranks' output in threads of such a worker. When a run of ranks is stopped it closes their
stream first, and whatever a dying rank still says ends the thread with a traceback. Nothing is lost by it.
"""

from __future__ import annotations

import threading


def quiet_copying(arguments: threading.ExceptHookArgs) -> None:
    """Pass on what ends a thread, but for a copy of output into a stream that was closed on purpose."""
    copying = arguments.thread is not None and "prefix_connection" in arguments.thread.name
    if not (copying and isinstance(arguments.exc_value, RuntimeError)):
        threading.__excepthook__(arguments)


if __name__ == "__main__":
    from pyspark import daemon

    threading.excepthook = quiet_copying
    daemon.manager()
