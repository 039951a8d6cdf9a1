"""A made artifact is complete or absent, and whoever opens it learns of every change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crossweave.artifacts.sealed import Kind, Sealed, building, open_required, open_sealed, publish
from crossweave.errors import ArtifactError, SettingsError, TryAgainError
from crossweave.feeding.host_cache import HostCache
from crossweave.storage.location import Location
from crossweave.storage.records import read_record, write_record
from crossweave.tables.receipt_details import Scored, Trained
from crossweave.tables.receipts import Receipt, Receipts

KIND = Kind("thing", "things", "thing.json", 3, "train")
ARRAY = np.arange(6, dtype=np.float32)


def made(folder: Path, array: np.ndarray = ARRAY, fingerprint: str = "print") -> Sealed:
    with building(Location.of(folder)) as draft:
        np.save(draft / "a.npy", array)
        return publish(KIND, draft, Location.of(folder), fingerprint, {"order": {"b": 1, "a": 2}})


def test_a_folder_is_an_artifact_once_its_record_is_there(tmp_path: Path):
    folder = tmp_path / "one"
    assert open_sealed(KIND, folder) is None
    with pytest.raises(ArtifactError, match="is gone"):
        open_required(KIND, folder)
    made(folder)
    found = open_required(KIND, folder, "print")
    assert found.array("a").tolist() == ARRAY.tolist()
    assert list(found.facts["order"]) == ["b", "a"]  # order is kept
    assert list(found.files) == ["a.npy"]
    found.verify()


def flip(path: Path, place: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["a.npy", "thing.json"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "exchanged"])
def test_whatever_happens_to_a_file_is_refused_with_its_name_and_the_command_that_mends_it(
    tmp_path: Path, name: str, damage: str
):
    folder = tmp_path / "one"
    made(folder)
    open_required(KIND, folder).verify()  # seen whole once: what changes afterwards is seen too
    path = folder / name
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "flipped":
        flip(path, 20 if name.endswith("json") else -1)
    else:
        other = tmp_path / "other"
        made(other, ARRAY + 1, "another print")
        path.write_bytes((other / name).read_bytes())
    with pytest.raises(ArtifactError) as caught:
        open_required(KIND, folder, "print").verify()
    assert caught.value.exit_code == 3
    assert "./submit.sh train" in caught.value.hint
    assert name in caught.value.message or str(folder) in caught.value.message


def test_a_record_of_a_schema_that_is_not_known_is_refused(tmp_path: Path):
    path = tmp_path / "record.json"
    write_record(path, 99, {"a": 1})
    with pytest.raises(ArtifactError, match="schema 99, this version of crossweave reads 2"):
        read_record(path, 2, "mend it")


def test_no_bit_of_a_record_can_change_unseen(tmp_path: Path):
    path = tmp_path / "record.json"
    write_record(path, 2, {"weights": {"b": 0.25, "a": [1, 2]}, "name": "ü"})
    whole = path.read_bytes()
    kept = read_record(path, 2, "mend it")
    for place in range(len(whole)):
        raw = bytearray(whole)
        raw[place] ^= 4
        path.write_bytes(raw)
        try:
            found = read_record(path, 2, "mend it")
        except ArtifactError:
            continue
        assert found == kept, place  # white space


def test_a_draft_becomes_the_artifact_in_one_rename(tmp_path: Path):
    folder = tmp_path / "things" / "one"
    folder.mkdir(parents=True)
    (folder / "half.npy").write_bytes(b"a killed run's")
    made(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["a.npy", "thing.json"]
    assert list(folder.parent.iterdir()) == [folder]


# Receipts ----------------------------------------------------------------------------------------------------------


def receipt(stage: str = "train") -> Receipt:
    return Receipt(stage, "f", "r", {"b": 1, "a": 2}, {"t": 3}, 4, Trained("x") if stage == "train" else Scored("warm"))


def test_a_receipt_that_was_changed_or_is_another_stage_s_is_refused(tmp_path: Path):
    receipts = Receipts(tmp_path)
    receipts.publish(receipt())
    path = tmp_path / "receipts" / "train.json"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace('"t": 3', '"t": 2'), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"train\.json is not as it was written"):
        receipts.latest("train")
    receipts.publish(receipt("score"))
    path.write_bytes((tmp_path / "receipts" / "score.json").read_bytes())
    with pytest.raises(ArtifactError, match="is the receipt of stage score"):
        receipts.latest("train")
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ArtifactError):
        receipts.all()


def test_a_receipt_of_before_there_were_schemas_is_read(tmp_path: Path):
    path = tmp_path / "receipts" / "train.json"
    path.parent.mkdir()
    old = {"stage": "train", "fingerprint": "f", "run_id": "r", "reads": {}, "writes": {"t": 3}, "rows": 4}
    path.write_text(json.dumps(old | {"details": {}}), encoding="utf-8")
    found = Receipts(tmp_path).latest("train")
    assert found is not None
    assert found.writes == {"t": 3}


# The host's cache --------------------------------------------------------------------------------------------------


def build(folder: Path) -> None:
    np.save(folder / "a.npy", ARRAY)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_set_whose_bytes_changed_is_made_anew_and_never_used(temporary: Path):
    cache = HostCache("one")
    assert cache.open(build, 100)["a"].tolist() == ARRAY.tolist()
    flip(cache.folder / "a.npy", -1)
    assert cache.open(build, 100)["a"].tolist() == ARRAY.tolist()


@pytest.mark.parametrize("planted", ["a file", "an empty folder", "a link", "a folder for all"])
def test_what_somebody_planted_in_a_set_s_place_is_not_used(temporary: Path, planted: str):
    cache, elsewhere = HostCache("one"), temporary / "elsewhere"
    HostCache("other").open(build, 100)
    elsewhere.mkdir()
    np.save(elsewhere / "a.npy", ARRAY + 1)
    write_record(elsewhere / "done.json", 1, {"files": {}})
    if planted == "a file":
        cache.folder.write_bytes(b"x")
    elif planted == "an empty folder":
        cache.folder.mkdir()
    elif planted == "a link":
        cache.folder.symlink_to(elsewhere)
    else:
        elsewhere.rename(cache.folder)
        cache.folder.chmod(0o777)
    assert cache.open(build, 100)["a"].tolist() == ARRAY.tolist()
    assert cache.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("hands", ["a link", "a file", "open to all"])
def test_a_root_in_other_hands_is_refused(temporary: Path, hands: str):
    root = HostCache("one").root
    if hands == "a link":
        (temporary / "theirs").mkdir()
        root.symlink_to(temporary / "theirs")
    elif hands == "a file":
        root.write_bytes(b"")
    else:
        root.mkdir()
        root.chmod(0o777)
    with pytest.raises(SettingsError, match="this user alone can write to"):
        HostCache("one").open(build, 100)


def test_a_root_of_an_earlier_version_that_others_may_read_is_closed(temporary: Path):
    cache = HostCache("one")
    cache.root.mkdir(mode=0o755)
    cache.open(build, 100)
    assert cache.root.stat().st_mode & 0o777 == 0o700


def test_no_room_or_no_place_to_write_is_a_fault_that_passes(temporary: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(TryAgainError, match="bytes are needed"):
        HostCache("one").open(build, 1 << 60)
    assert list(HostCache("one").root.iterdir()) == []
    monkeypatch.setattr("tempfile.tempdir", "/proc/1")
    with pytest.raises(TryAgainError, match="cannot be kept in"):
        HostCache("one").open(build, 100)


def test_what_nobody_opens_and_what_dead_processes_half_built_is_removed_by_the_next_build(temporary: Path):
    old, young, own = HostCache("old"), HostCache("young"), HostCache("own")
    for cache in (old, young):
        cache.open(build, 100)
    os.utime(old.folder / "done.json", (0, 0))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (own.root / f".own.{dead.pid}.ab").mkdir()
    (own.root / f".own.{os.getpid()}.cd").mkdir()
    own.open(build, 100)
    assert sorted(path.name for path in own.root.iterdir()) == [f".own.{os.getpid()}.cd", "own", "young"]
