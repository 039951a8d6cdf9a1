"""Who may write to a workspace: one run at a time, on whatever store it lies.

On a mounted file system the kernel's lock of ROOT/.lock says so. Elsewhere it is the last of the numbered objects
ROOT/.lease/NUMBER, which only one can create; its holder shows that it lives by renewing NUMBER.beat. Nobody compares
clocks of two machines: who wants the workspace watches the beat by its own clock, and who holds it and could not renew
it stops, by its own clock, well before anybody else may take over.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import IO, Any

from crossweave.errors import TryAgainError
from crossweave.storage.location import Location

log = logging.getLogger(__name__)
BEAT = 5.0
"""Seconds between two renewals."""
EXPIRY = 30.0
"""Seconds of an unchanged beat after which a lease may be taken over."""
TRUSTED = 0.6
"""The part of EXPIRY for which a holder that could not renew trusts that nobody has taken over."""
KEPT = 3
"""Leases that stay: the last ones tell who wrote last."""
HINT = "try again when that run has ended"
_NUMBER = re.compile(r"^\.?(\d{10})(\.|$)")


class Lease:
    """The right to write below a root; one of a mounted file system lasts as long as its process."""

    def __init__(self, root: Location, holder: str) -> None:
        self.root, self.holder, self.process = root, holder, os.getpid()

    def check(self, thorough: bool = False) -> None:
        """Raise TryAgainError where another run has, or may have, the root by now; `thorough` asks the store too."""


_HELD: dict[Location, Lease] = {}


def fence(place: Location, thorough: bool = False) -> None:
    """Check the lease that this process holds on a root of a place, before something is written there.

    Nothing happens where it holds none, as on executors.
    """
    for root, lease in list(_HELD.items()):
        if lease.process == os.getpid() and root.holds(place):
            lease.check(thorough)


@contextlib.contextmanager
def hold(root: Location, holder: str) -> Iterator[Lease]:
    """Hold a root for the body; raises TryAgainError, naming the holder, where another run has it."""
    with _locked(root, holder) if root.is_local else _leased(root, holder) as lease:
        _HELD[root] = lease
        try:
            yield lease
        finally:
            del _HELD[root]


@contextlib.contextmanager
def _locked(root: Location, holder: str) -> Iterator[Lease]:
    root.local.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").local.open("a+") as stream:
        _lock(stream, root)
        stream.truncate(0)
        stream.write(holder)
        stream.flush()
        yield Lease(root, holder)  # the kernel releases the lock when the process ends, however it ends


def _lock(stream: IO[str], root: Location) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        for _ in range(10):  # who has just taken it is about to write its name
            stream.seek(0)
            holder = stream.read().strip()
            if holder:
                break
            time.sleep(0.05)
        raise _held(root, holder) from error


@contextlib.contextmanager
def _leased(root: Location, holder: str) -> Iterator[Lease]:
    lease = _Numbered(root, holder)
    lease.acquire()
    try:
        yield lease
    finally:
        lease.release()


class _Numbered(Lease):
    """A lease in a store without locks. Its number, which only grows, tells a newer holder from an older one."""

    def __init__(self, root: Location, holder: str) -> None:
        super().__init__(root, holder)
        self.number, self._count = 0, 0
        self._token = uuid.uuid4().hex  # tells this one's objects from those of others
        self._renewed = _now()
        self._lost = ""
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._live, name="lease", daemon=True)

    def acquire(self) -> None:
        """Become the holder, and live; raises TryAgainError where another is, or becomes it."""
        last = max(_numbers(self.root), default=0)
        if last:
            _watch(self.root, last)
        self.number = last + 1
        self._renewed = _now()
        facts = {"holder": self.holder, "host": socket.gethostname(), "pid": self.process}
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        mine = json.dumps({**facts, "since": since, "token": self._token})
        # An answer that got lost is asked for again, and then the object is there: the token tells whose it is.
        if not _place(self.root, self.number).create(mine) and self._read(self.number).get("token") != self._token:
            raise _held(self.root, _holder(self.root, self.number))
        newest = max(_numbers(self.root), default=self.number)
        if newest != self.number:  # many came and went since the first look, and the objects between are gone
            _place(self.root, self.number).remove()
            raise _held(self.root, _holder(self.root, newest))
        self._renew()
        _remove_old(self.root, self.number)
        self._thread.start()

    def check(self, thorough: bool = False) -> None:
        """Raise TryAgainError where another run has, or may have, the root by now; `thorough` asks the store too."""
        if not self._lost and _now() - self._renewed > EXPIRY * TRUSTED:
            self._lose()
        if not self._lost and thorough:
            self._look()
        if self._lost:
            raise TryAgainError(self._lost, HINT)

    def release(self) -> None:
        """Stop living, and let the next one come at once."""
        self._left.set()
        self._thread.join(EXPIRY)
        if self._lost or self._thread.is_alive():
            return
        try:
            self._beat(released=True)
        except Exception as error:  # the body's own end matters more
            log.warning("the lease of %s was not released, the next run waits %g s: %s", self.root, EXPIRY, error)

    def _live(self) -> None:
        while not self._lost and not self._left.wait(BEAT):
            try:
                self._renew()
                self._look()
            except Exception as error:  # until the clock says that it has been too long
                log.warning("the lease of %s could not be renewed: %s", self.root, error)

    def _renew(self) -> None:
        start = _now()
        self._beat()
        # Who was away for longer than that may have been given up meanwhile, even if nobody has taken over yet.
        if _now() - self._renewed > EXPIRY * TRUSTED:
            self._lose()
        self._renewed = start

    def _beat(self, released: bool = False) -> None:
        self._count += 1
        _beat_of(self.root, self.number).put(json.dumps({"count": self._count, "released": released}))

    def _look(self) -> None:
        newest = max(_numbers(self.root), default=0)
        if newest > self.number:
            self._lost = f"the workspace {self.root} was taken over by run {_holder(self.root, newest)}"

    def _lose(self) -> None:
        away = f"the lease of the workspace {self.root} could not be renewed for {EXPIRY * TRUSTED:g} s"
        self._lost = f"{away} and may have been taken over by another run"
        with contextlib.suppress(Exception):
            self._look()

    def _read(self, number: int) -> dict[str, Any]:
        return _read(_place(self.root, number))


def _watch(root: Location, number: int) -> None:
    """Return when a lease was released or has expired; raises TryAgainError as soon as its holder shows life."""
    start = time.monotonic()
    place = _beat_of(root, number)
    first = _read(place)
    while not first.get("released"):
        waited = time.monotonic() - start  # measured before the look that it is about
        seen = _read(place)
        if seen.get("released"):
            return
        newest = max(_numbers(root), default=number)
        if seen != first or newest > number:
            raise _held(root, _holder(root, newest))
        if waited >= EXPIRY:
            log.warning("the run %s has given no sign of life for %g s", _holder(root, number), waited)
            return
        time.sleep(min(BEAT / 4, EXPIRY - waited))


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps


def _place(root: Location, number: int) -> Location:
    return root / ".lease" / f"{number:010}"


def _beat_of(root: Location, number: int) -> Location:
    return root / ".lease" / f"{number:010}.beat"


def _numbers(root: Location) -> list[int]:
    return [int(place.name) for place in (root / ".lease").children() if re.fullmatch(r"\d{10}", place.name)]


def _read(place: Location) -> dict[str, Any]:
    """Return an object's facts; none where it is not there, or no JSON."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        value = json.loads(place.read())
        return value if isinstance(value, dict) else {}
    return {}


def _holder(root: Location, number: int) -> str:
    return str(_read(_place(root, number)).get("holder", ""))


def _held(root: Location, holder: str) -> TryAgainError:
    return TryAgainError(f"the workspace {root} is held by run {holder or 'another run'}", HINT)


def _remove_old(root: Location, number: int) -> None:
    """Remove the leases, and what their killed holders left unfinished, before the last ones."""
    for place in (root / ".lease").children():
        found = _NUMBER.match(place.name)
        if found and int(found[1]) <= number - KEPT:
            place.remove()
