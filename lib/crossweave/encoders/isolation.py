"""Prepares values in a child process that may crash, hang or eat memory without taking its worker along.

Decoders of pictures, sounds and videos are large C libraries that read bytes anyone may have made. Their work is
done by a *decoder process*; a *spawner*, forked before models are loaded and threads are started, forks decoder
processes when asked, so that a new one never inherits a lock that some thread of the worker holds.
This is a barrier against faults, not against an attacker who takes the decoder process over.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from crossweave.encoders.base import Failure, Prepared, refuse_none

_HEADER = struct.Struct("<Q")
_KILL_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_TOO_MUCH_MEMORY = Failure(0, "too_much_memory", "Decoding needed more memory than the decoder may use.")


class DecoderLostError(Exception):
    """The decoder process died or did not answer in time; `reason` is the code for the quarantine."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Preparer(Protocol):
    """What turns contents into examples: an encoder, or whatever else keeps them."""

    @property
    def isolated(self) -> bool:
        """Whether it decodes formats whose decoders may crash or hang."""

    def warm_up(self) -> None:
        """Import and read what `prepare` needs."""

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """As `Encoder.prepare`."""


class IsolatedPreparer:
    """`encoder.prepare` in a decoder process with a time limit a value and a limit on the memory it may add.

    A value that kills its decoder or exceeds the time is tried once more, alone and with twice the time; then it is
    a failure: decoder_crashed or timeout. One beyond the memory limit is too_much_memory. All are permanent.
    """

    def __init__(self, encoder: Preparer, seconds: float, megabytes: int) -> None:
        self._encoder = pickle.dumps(encoder)
        self._seconds, self._megabytes = seconds, megabytes
        self._decoder: _Decoder | None = None

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """As `Encoder.prepare`; raises TypeError on None, and what `prepare` of the encoder raises for all values."""
        for position, value in enumerate(values):
            refuse_none(position, value)
        prepared = Prepared([], [], [])
        start = 0
        while start < len(values):
            done, lost = self._run(values[start:], start, self._seconds, prepared)
            start += done
            if lost is not None:
                _, lost_again = self._run(values[start : start + 1], start, 2 * self._seconds, prepared)
                if lost_again is not None:
                    prepared.failures.append(Failure(start, lost_again.reason, lost_again.detail))
                start += 1
        return prepared

    def close(self) -> None:
        """End the decoder process."""
        if self._decoder is not None:
            self._decoder.kill()
            self._decoder = None

    def _run(
        self, values: Sequence[Any], start: int, seconds: float, into: Prepared
    ) -> tuple[int, DecoderLostError | None]:
        """Prepare values in order until the decoder is lost; how many were done, and what became of it."""
        for done in range(len(values)):
            try:
                if self._decoder is None:
                    self._decoder = _Decoder(self._encoder, self._megabytes)
                if done == 0:
                    self._decoder.send(values, 4 * self._seconds)
                answer = self._decoder.receive(seconds)
            except DecoderLostError as lost:
                self.close()
                return done, lost
            if isinstance(answer, Exception):
                self.close()
                raise answer
            into.examples.extend(answer.examples)
            into.positions.extend(start + done for _ in answer.positions)
            into.failures.extend(replace(failure, position=start + done) for failure in answer.failures)
        return len(values), None


class _Decoder:
    """One decoder process and the socket to it."""

    def __init__(self, encoder: bytes, megabytes: int) -> None:
        self._pid, self._socket = _spawner().spawn()
        try:
            _write(self._socket, pickle.dumps((encoder, megabytes)))
        except OSError as error:
            raise self._lost(error) from error

    def send(self, values: Sequence[Any], seconds: float) -> None:
        """Hand over values; the decoder reads them all before it answers the first."""
        self._socket.settimeout(seconds)
        try:
            _write(self._socket, pickle.dumps(list(values), protocol=5))
        except OSError as error:
            raise self._lost(error) from error

    def receive(self, seconds: float) -> Any:
        """The next value's Prepared, or the exception that concerns all values."""
        try:
            answer = _read(self._socket, time.monotonic() + seconds)
        except OSError as error:
            raise self._lost(error, seconds) from error
        if answer is None:
            raise self._lost(None)
        return pickle.loads(answer)

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._socket.close()
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def _lost(self, error: OSError | None, seconds: float = 0.0) -> DecoderLostError:
        if isinstance(error, TimeoutError):
            return DecoderLostError("timeout", f"Decoding took longer than {seconds:g} s.")
        return DecoderLostError("decoder_crashed", "The decoder process died while it read this value.")


class _Spawner:
    """A small process that forks decoder processes; it ends with the process that made it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._control, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            self._control.close()
            _end_quietly(partial(_spawn_on_demand, theirs))
        theirs.close()

    def spawn(self) -> tuple[int, socket.socket]:
        """A new decoder process: its pid and the socket to it. Raises OSError where none can be forked."""
        self._control.sendall(b"f")
        note, descriptors, _, _ = socket.recv_fds(self._control, 8, 1)
        if len(note) != 8 or not descriptors:
            raise OSError("the spawner of decoder processes is gone")
        return int(_HEADER.unpack(note)[0]), socket.socket(fileno=descriptors[0])


_SPAWNERS: list[_Spawner] = []


def start_spawner() -> None:
    """Fork this process's spawner if it has none; call it before models are loaded and threads are started."""
    _spawner()


def _spawner() -> _Spawner:
    if not _SPAWNERS or _SPAWNERS[0].owner != os.getpid():  # a forked worker must not share its parent's
        _SPAWNERS[:] = [_Spawner()]
    return _SPAWNERS[0]


# In the child processes -------------------------------------------------------------------------------------------


def _end_quietly(work: Callable[[], None]) -> None:
    """Run the child's work and leave without the parent's clean-up handlers."""
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def _spawn_on_demand(control: socket.socket) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGCHLD else signal.SIG_DFL)
    _keep_only(control.fileno())
    while control.recv(1):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            control.close()
            ours.close()
            _end_quietly(partial(_decode_on_demand, theirs))
        theirs.close()
        socket.send_fds(control, [_HEADER.pack(pid)], [ours.fileno()])
        ours.close()


def _keep_only(descriptor: int) -> None:
    """Close what was inherited: a worker's sockets must close when the worker closes them."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    top = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    top = 65_536 if top == resource.RLIM_INFINITY else min(top, 65_536)
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, top)


def _decode_on_demand(stream: socket.socket) -> None:
    ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, signal.SIGKILL)
    first = _read(stream, None)
    if first is None:
        return
    sent, megabytes = pickle.loads(first)
    try:
        encoder: Preparer = pickle.loads(sent)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)  # its thread pool does not survive a fork
        encoder.warm_up()
        encoder.prepare([])  # what is read for all values, before the memory is limited
        broken = None
    except Exception as error:
        broken = error
    _limit_memory(megabytes)
    while (request := _read(stream, None)) is not None:
        for value in pickle.loads(request):
            _write(stream, pickle.dumps(broken or _prepare(encoder, value), protocol=5))


def _prepare(encoder: Preparer, value: Any) -> Prepared | Exception:
    try:
        prepared = encoder.prepare([value])
    except MemoryError:
        return Prepared([], [], [_TOO_MUCH_MEMORY])
    except Exception as error:
        return error
    failures = [_TOO_MUCH_MEMORY if "MemoryError" in f.detail else f for f in prepared.failures]
    return Prepared(prepared.examples, prepared.positions, failures)


def _limit_memory(megabytes: int) -> None:
    """Allow `megabytes` beyond what the process has mapped already (libraries map much that they never touch).

    Memory that the spawner's maker had freed but still mapped can be used again on top of it: fork the spawner early.
    """
    mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (megabytes << 20),) * 2)


def _write(stream: socket.socket, payload: bytes) -> None:
    stream.sendall(_HEADER.pack(len(payload)))
    stream.sendall(payload)


def _read(stream: socket.socket, deadline: float | None) -> bytearray | None:
    """One message; None where the other side has gone. Raises TimeoutError at the deadline."""
    header = _read_exactly(stream, _HEADER.size, deadline)
    return None if header is None else _read_exactly(stream, int(_HEADER.unpack(header)[0]), deadline)


def _read_exactly(stream: socket.socket, size: int, deadline: float | None) -> bytearray | None:
    buffer = bytearray(size)
    view, at = memoryview(buffer), 0
    while at < size:
        if deadline is not None:
            stream.settimeout(max(0.001, deadline - time.monotonic()))
        count = stream.recv_into(view[at:])
        if not count:
            return None
        at += count
    return buffer
