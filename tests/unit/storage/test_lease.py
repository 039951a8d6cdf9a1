"""One holder at a time, on every kind of store; other processes are real ones, stopped and killed for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossweave.errors import TryAgainError
from crossweave.storage import lease
from crossweave.storage.lease import fence, hold
from crossweave.storage.location import Location

BEAT, EXPIRY = 0.3, 4.0  # seconds
RUN = """
import sys
from crossweave.errors import CrossweaveError
from crossweave.storage import lease
from crossweave.storage.location import Location
lease.BEAT, lease.EXPIRY = float(sys.argv[3]), float(sys.argv[4])
print("READY", flush=True)
sys.stdin.readline()
try:
    with lease.hold(Location.of(sys.argv[1]), sys.argv[2]) as held:
        print("HELD", flush=True)
        for line in sys.stdin:
            held.check(thorough=line.strip() == "thorough")
            print("FINE", flush=True)
except CrossweaveError as error:
    print(f"{error.exit_code} {error.message}", flush=True)
"""


class Other:
    """A run in a process of its own; it starts to want the workspace when told."""

    def __init__(self, root: Location, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(root), name, str(BEAT), str(EXPIRY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started = False

    def is_ready(self) -> None:
        if not self.started:
            assert self.hears() == "READY"
            self.started = True

    def says(self, word: str = "") -> None:
        self.is_ready()
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hears(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def asked(self, word: str = "") -> str:
        self.says(word)
        return self.hears()

    def ends(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)

    def is_sent(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@pytest.fixture
def other(root: Location) -> Iterator[Callable[[str], Other]]:
    """Return a function that starts a run in another process."""
    made: list[Other] = []

    def make(name: str) -> Other:
        made.append(Other(root, name))
        return made[-1]

    yield make
    for run in made:
        run.process.kill()
        run.process.wait()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", BEAT)
    monkeypatch.setattr(lease, "EXPIRY", EXPIRY)


elsewhere = pytest.mark.parametrize("root", ["s3", "hdfs"], indirect=True)
disk = pytest.mark.parametrize("root", ["disk"], indirect=True)


def numbers(root: Location) -> list[int]:
    return [int(place.name) for place in (root / ".lease").children() if place.name.isdigit()]


def test_of_two_processes_one_holds_and_the_other_is_told_who(root: Location, other: Callable[[str], Other]) -> None:
    first = other("night-1")
    assert first.asked() == "HELD"
    with pytest.raises(TryAgainError, match="is held by run night-1") as caught, hold(root, "night-2"):
        pass
    assert caught.value.exit_code == 75
    assert str(root) in caught.value.message
    assert first.asked("thorough") == "FINE"


def test_what_is_released_is_held_at_once(
    root: Location, other: Callable[[str], Other], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "EXPIRY", 120.0)  # whoever waits for that is seen on a busy machine too
    first = other("night-1")
    assert first.asked() == "HELD"
    first.ends()
    start = time.monotonic()
    with hold(root, "night-2") as held:
        held.check(thorough=True)
    with hold(root, "night-3"):
        pass
    assert time.monotonic() - start < 120


def test_of_eight_that_come_at_once_one_holds(root: Location, other: Callable[[str], Other]) -> None:
    runs = [other(f"night-{number}") for number in range(8)]
    for run in runs:
        run.is_ready()
    for run in runs:
        run.says()
    said = [run.hears() for run in runs]
    assert said.count("HELD") == 1
    winner = f"night-{said.index('HELD')}"
    assert [line for line in said if line != "HELD"] == [f"75 the workspace {root} is held by run {winner}"] * 7


def test_the_error_of_the_body_passes_and_nothing_stays_behind(root: Location) -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), hold(root, "night-1"):
        raise ZeroDivisionError
    assert [thread.name for thread in threading.enumerate() if thread.name == "lease"] == []
    assert threading.active_count() <= before + 1  # the store's own
    with hold(root, "night-2"):
        pass


@elsewhere
def test_a_killed_holder_is_taken_over_when_its_lease_has_expired(
    root: Location, other: Callable[[str], Other]
) -> None:
    first = other("night-1")
    assert first.asked() == "HELD"
    first.is_sent(signal.SIGKILL)
    first.process.wait()
    start = time.monotonic()
    with hold(root, "night-2") as held:
        assert time.monotonic() - start >= EXPIRY
        held.check(thorough=True)
        assert numbers(root) == [1, 2]


@elsewhere
def test_a_holder_that_was_paused_is_taken_over_and_knows(root: Location, other: Callable[[str], Other]) -> None:
    first = other("night-1")
    assert first.asked() == "HELD"
    first.is_sent(signal.SIGSTOP)
    with hold(root, "night-2") as held:
        first.is_sent(signal.SIGCONT)
        assert first.asked() == f"75 the workspace {root} was taken over by run night-2"
        held.check(thorough=True)


@elsewhere
def test_who_could_not_renew_for_long_stops_before_anybody_takes_over(
    root: Location, other: Callable[[str], Other]
) -> None:
    first = other("night-1")
    assert first.asked() == "HELD"
    first.is_sent(signal.SIGSTOP)
    time.sleep(EXPIRY * lease.TRUSTED + BEAT)
    first.is_sent(signal.SIGCONT)
    said = first.asked()
    assert said.startswith(f"75 the lease of the workspace {root} could not be renewed for 2.4 s")
    assert said.endswith("may have been taken over by another run")


@elsewhere
def test_a_higher_number_is_seen_by_the_thread_and_at_once_by_a_thorough_check(
    root: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT", 60.0)
    monkeypatch.setattr(lease, "EXPIRY", 600.0)
    with hold(root, "night-1") as held:
        (root / ".lease" / "0000000002").put('{"holder": "night-2"}')
        held.check()
        fence(root / "tables" / "x")
        with pytest.raises(TryAgainError, match="was taken over by run night-2"):
            fence(root / "tables" / "x", thorough=True)
        with pytest.raises(TryAgainError, match="was taken over by run night-2"):
            held.check()
    monkeypatch.setattr(lease, "BEAT", BEAT)
    (root / ".lease" / "0000000002.beat").put('{"released": true}')
    with hold(root, "night-3") as held:
        (root / ".lease" / "0000000004").put('{"holder": "night-4"}')
        end = time.monotonic() + 10
        while not held._lost and time.monotonic() < end:  # type: ignore[attr-defined]
            time.sleep(BEAT / 3)
        with pytest.raises(TryAgainError, match="was taken over by run night-4"):
            held.check()


@elsewhere
def test_numbers_grow_and_the_last_leases_stay(root: Location) -> None:
    (root / ".lease" / "notes.txt").put("of a user")
    for number in range(1, 7):
        with hold(root, f"night-{number}"):
            assert max(numbers(root)) == number
            assert len(numbers(root)) <= lease.KEPT
    names = [place.name for place in (root / ".lease").children()]
    kept = [f"000000000{number}{end}" for number in (4, 5, 6) for end in ("", ".beat")]
    assert names == [*kept, "notes.txt"]


@elsewhere
def test_an_idle_holder_stays_the_holder(root: Location) -> None:
    with hold(root, "night-1") as held:
        first = (root / ".lease" / "0000000001.beat").text()
        time.sleep(EXPIRY * 1.2)
        held.check(thorough=True)
        assert (root / ".lease" / "0000000001.beat").text() != first


@elsewhere
def test_a_late_comer_that_creates_a_number_of_long_ago_does_not_hold(
    root: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        with hold(root, f"night-{number}"):
            pass
    seen = lease._numbers
    answers = iter([[1]])  # it looked when night-1 was the last one, and was away for long
    monkeypatch.setattr(lease, "_numbers", lambda root: next(answers, None) or seen(root))
    monkeypatch.setattr(lease, "_watch", lambda root, number: None)
    with pytest.raises(TryAgainError, match="is held by run night-5"), hold(root, "late"):
        pass
    assert numbers(root) == [3, 4, 5]


def test_a_fence_minds_only_places_below_what_this_process_holds(root: Location, tmp_path: Path) -> None:
    root = root / "ws"
    fence(root / "x", thorough=True)
    with hold(root, "night-1"):
        lost = lease.Lease(root, "lost")
        lost.check = lambda thorough=False: (_ for _ in ()).throw(TryAgainError("lost"))  # type: ignore[method-assign]
        lease._HELD[root] = lost
        with pytest.raises(TryAgainError, match="lost"):
            fence(root / "x")
        fence(root.parent / "ws-beside" / "x")
        fence(Location.of(tmp_path / "elsewhere"))
        child = os.fork()
        if child == 0:  # a worker does not hold what its parent does
            try:
                fence(root / "x")
            except TryAgainError:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    fence(root / "x")


@disk
def test_the_lock_of_a_disk_names_its_holder_and_ends_with_its_process(
    root: Location, other: Callable[[str], Other]
) -> None:
    first = other("night-1")
    assert first.asked() == "HELD"
    assert (root / ".lock").text() == "night-1"
    first.is_sent(signal.SIGKILL)
    first.process.wait()
    with hold(root, "n2") as held:
        held.check(thorough=True)
        fence(root / "x", thorough=True)
        assert (root / ".lock").text() == "n2"
    assert not (root / ".lease").exists()
