"""What doctor says of a cluster, with executors that really answer: those of the session of all tests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeSettings
from pyspark.sql import SparkSession

from crossweave.runtime import cluster_doctor
from crossweave.runtime.cluster_doctor import _given_up, _of_settings, _reason, examine_cluster
from crossweave.runtime.cluster_probe import Asked, probe, versions_here
from crossweave.runtime.findings import Finding
from crossweave.runtime.meeting import Meeting
from crossweave.storage.location import Location


@pytest.fixture
def examined(spark: SparkSession, make_settings: MakeSettings) -> Callable[..., dict[str, Finding]]:
    """Return a function that examines the tests' session, which has two slots; pairs are settings."""

    def examine(**pairs: Any) -> dict[str, Finding]:
        return {finding.name: finding for finding in examine_cluster(make_settings(**pairs))}

    return examine


def test_a_cluster_that_has_all_is_well_and_the_workspace_left_as_it_was(examined, tmp_path: Path) -> None:
    found = examined(workspace=str(tmp_path / "ws"))
    assert [name for name, finding in found.items() if not finding.ok] == []
    assert list(found) == ["cluster", "speculation", "allocation", "executors", "slots", "rendezvous", "versions",
                           "store", "gpus"]  # fmt: skip
    assert list((tmp_path / "ws").iterdir()) == []


def test_ranks_that_cannot_run_side_by_side_are_told_and_no_network_is_blamed(examined) -> None:
    found = examined(train__ranks=3, train__start_timeout_seconds=2)
    assert (found["slots"].must_be_mended, found["slots"].found) == (True, "2 tasks ran side by side, train.ranks is 3")
    assert found["rendezvous"].ok


def test_each_difference_of_an_executor_is_named_with_its_host(examined, monkeypatch: pytest.MonkeyPatch) -> None:
    here = versions_here(cluster_doctor.SAME)
    monkeypatch.setattr(cluster_doctor, "versions_here", lambda names: here | {"torch": "1.0", "crossweave": "code x"})
    told = examined()["versions"]
    assert told.must_be_mended
    assert told.found == (
        f"crossweave {here['crossweave']} instead of code x on {socket.gethostname()}; "
        f"torch {here['torch']} instead of 1.0 on {socket.gethostname()}"
    )


def test_gpus_that_are_asked_for_and_not_there_are_told(examined) -> None:
    told = examined(embed__device="cuda", train__device="cuda")["gpus"]
    assert told.must_be_mended
    assert told.found.startswith("train.device and embed.device is cuda, and tasks see none on")


def test_an_executor_that_does_not_see_the_drivers_folder_is_told(spark, examined, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Location, "put", lambda place, data: None)  # as one that another machine put on its own disk
    told = examined(workspace=str(tmp_path / "ws"))["store"]
    assert told.must_be_mended
    assert "which the driver has just written, is not there" in told.found
    assert "every machine sees" in told.mend


def test_a_driver_that_cannot_be_reached_is_told_by_the_host(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = probe(Asked([taken.getsockname()], 1, (), str(tmp_path / "x"), "x"))
    assert (answer["reached"], answer["met"]) == (False, False)
    assert answer["workspace"].startswith("FileNotFoundError")


def test_speculation_and_dynamic_allocation_warn() -> None:
    found = list(_of_settings({"spark.speculation": "true", "spark.dynamicAllocation.enabled": "true"}))
    assert [(finding.ok, finding.must_be_mended) for finding in found] == [(False, False)] * 2


def test_what_never_comes_is_given_up() -> None:
    ended = threading.Event()
    with pytest.raises(TimeoutError, match="within 0 s"), _given_up(0.05, ended.set):
        assert ended.wait(5)
        raise OSError("as a JVM that was killed")


def test_the_line_that_says_why_is_chosen_from_a_long_message() -> None:
    long = 'An error occurred\n at org.apache.Spark\nException: Cannot run program "/opt/python": error=2\n at x.Y'
    assert _reason(RuntimeError(long)) == 'Exception: Cannot run program "/opt/python": error=2'


def test_who_comes_too_late_to_a_meeting_is_answered_too() -> None:
    meeting = Meeting(2, "127.0.0.1")
    with meeting.open(0.1):
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", meeting.port), 5) as one:
                one.settimeout(5)
                assert one.recv(1) == b"?"
    assert meeting.most == 1
