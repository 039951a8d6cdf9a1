"""A place where tasks meet: each connects and is kept until all of them are there, as Horovod's ranks are."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator


class Meeting:
    """A server that reads nothing: it counts who has come, and tells all of them when the last one has."""

    def __init__(self, expected: int, host: str) -> None:
        self.expected, self.most = expected, 0
        self._server = socket.create_server((host, 0), backlog=expected)
        self.port: int = self._server.getsockname()[1]
        self._end = threading.Event()

    @contextlib.contextmanager
    def open(self, seconds: float) -> Iterator[Meeting]:
        """Wait for them in the background, after the first has come for so many seconds at the most."""
        thread = threading.Thread(target=self._wait, args=(seconds,), name="meeting", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._end.set()
            thread.join()
            self._server.close()

    def _wait(self, seconds: float) -> None:
        self._server.settimeout(0.2)
        there, first, answer = list[socket.socket](), 0.0, b""
        while not self._end.is_set():
            with contextlib.suppress(TimeoutError):
                there.append(self._server.accept()[0])
                first = first or time.monotonic()
            if not answer and len(there) >= self.expected:
                self.most, answer = len(there), b"!"
            elif not answer and first and time.monotonic() - first > seconds:
                self.most, answer = len(there), b"?"
            if answer:  # also to who comes too late
                for one in there:
                    with contextlib.suppress(OSError):
                        one.sendall(answer)
                    one.close()
                there.clear()
        for one in there:
            one.close()
