"""Who may write to a workspace."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from crossweave.errors import TryAgainError
from crossweave.storage.location import Location


@contextmanager
def hold(root: Location, holder: str) -> Iterator[None]:
    """Hold a workspace; raises TryAgainError where another run does."""
    path = root.local / ".lock"
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            by = stream.read().strip() or "another run"
            raise TryAgainError(
                f"the workspace {root} is held by run {by}", "try again when that run has ended"
            ) from error
        stream.truncate(0)
        stream.write(holder)
        stream.flush()
        yield
