"""Copies of remote files on this host: shared, checked, and no more of them than there is room for."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from crossweave.errors import ArtifactError, SettingsError
from crossweave.storage import copies
from crossweave.storage.copies import FileMark, mark_file, verified
from crossweave.storage.location import Location

REMEDY = "train again"
READER = """
import sys, time
from pathlib import Path
from crossweave.storage import bucket, copies
from crossweave.storage.location import Location
download = bucket.Bucket.download
def counted(store, path, target):
    Path(sys.argv[4]).open("a").write("one\\n")
    time.sleep(1)
    download(store, path, target)
bucket.Bucket.download = counted
sys.stdin.readline()
print(copies.verified(Location.of(sys.argv[1]), copies.FileMark(int(sys.argv[2]), sys.argv[3]), "model", "train again"))
"""


@pytest.fixture(autouse=True)
def _host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test a host of its own."""
    folder = tmp_path / "host"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv(copies.MOST, raising=False)


def stored(place: Location, content: bytes, tmp_path: Path) -> FileMark:
    """Put a file, and return its mark."""
    source = tmp_path / "source"
    source.write_bytes(content)
    place.upload(source)
    return mark_file(source)


def held() -> list[str]:
    """Return the names of the host's copies."""
    return sorted(path.name for path in copies.host_folder("-copies").iterdir() if not path.name.startswith("."))


def test_a_copy_is_named_by_its_content_and_shared_by_all_of_the_same(s3: Location, tmp_path: Path) -> None:
    mark = stored(s3 / "a" / "model.pt", b"weights", tmp_path)
    copy = verified(s3 / "a" / "model.pt", mark, "model", REMEDY)
    assert copy.read_bytes() == b"weights"
    assert copy.name == f"{mark.sha256}.pt"
    stored(s3 / "b" / "model.pt", b"weights", tmp_path)
    assert verified(s3 / "b" / "model.pt", mark, "model", REMEDY) == copy
    assert held() == [copy.name]


def test_two_processes_that_need_a_file_fetch_it_once(s3: Location, tmp_path: Path) -> None:
    mark = stored(s3 / "model", os.urandom(9 << 20), tmp_path)
    words = [str(s3 / "model"), str(mark.size), mark.sha256, str(tmp_path / "downloads")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", READER, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert said[0] == said[1]
    assert mark_file(Path(said[0])) == mark
    assert (tmp_path / "downloads").read_text() == "one\n"


def test_a_damaged_copy_is_fetched_again(s3: Location, tmp_path: Path) -> None:
    mark = stored(s3 / "model", b"weights", tmp_path)
    copy = verified(s3 / "model", mark, "model", REMEDY)
    for damage in (b"weighty", b"w", b""):
        copy.write_bytes(damage)
        assert verified(s3 / "model", mark, "model", REMEDY).read_bytes() == b"weights"
    copy.unlink()
    assert verified(s3 / "model", mark, "model", REMEDY).read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"other!!", "is not the one that was written: its sha-256 differs"),
        (b"short", "has 5 bytes instead of 7"),
        (None, "cannot be read: it is gone"),
    ],
)
def test_a_source_that_is_not_what_it_was_is_named(
    s3: Location, tmp_path: Path, content: bytes | None, said: str
) -> None:
    mark = stored(s3 / "model", b"weights", tmp_path)
    if content is None:
        (s3 / "model").remove()
    else:
        (s3 / "model").put(content)
    with pytest.raises(ArtifactError) as caught:
        verified(s3 / "model", mark, "model", REMEDY)
    assert caught.value.message == f"model {s3}model {said}"
    assert caught.value.hint == REMEDY
    assert held() == []
    assert [path.name for path in copies.host_folder("-copies").iterdir() if ".lock" not in path.name] == []


def test_the_copies_that_nobody_opened_for_longest_go_first(
    s3: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(copies.MOST, "2.5e-6")  # 2,500 bytes
    monkeypatch.setattr(copies, "YOUNG_SECONDS", 0)
    marks = [stored(s3 / f"{number}", bytes([number]) * 1000, tmp_path) for number in range(4)]

    def use(number: int) -> None:
        verified(s3 / f"{number}", marks[number], "model", REMEDY)

    use(0)
    use(1)
    use(0)  # 1 is the one that nobody opened for longest
    use(2)
    assert held() == sorted(marks[number].sha256 for number in (0, 2))
    use(3)
    assert held() == sorted(marks[number].sha256 for number in (2, 3))


def test_a_copy_that_was_just_asked_for_stays_whatever_the_bound(
    s3: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(copies.MOST, "1e-9")
    marks = [stored(s3 / f"{number}", bytes([number]) * 1000, tmp_path) for number in range(3)]
    found = [verified(s3 / f"{number}", mark, "model", REMEDY) for number, mark in enumerate(marks)]
    assert [path.read_bytes()[:1] for path in found] == [b"\0", b"\1", b"\2"]


def test_a_bound_that_is_no_number_is_refused(s3: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(copies.MOST, "much")
    with pytest.raises(SettingsError, match="CROSSWEAVE_COPIES_GB expects a number of gigabytes, got much"):
        verified(s3 / "model", stored(s3 / "model", b"weights", tmp_path), "model", REMEDY)


def test_the_folder_of_copies_is_private(s3: Location, tmp_path: Path) -> None:
    mark = stored(s3 / "model", b"weights", tmp_path)
    folder = verified(s3 / "model", mark, "model", REMEDY).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    with pytest.raises(SettingsError, match="is not a folder that this user alone can write to"):
        verified(s3 / "model", mark, "model", REMEDY)


def test_a_file_of_a_disk_is_read_where_it_lies(tmp_path: Path) -> None:
    place = Location.of(tmp_path / "model")
    assert verified(place, stored(place, b"weights", tmp_path), "model", REMEDY) == tmp_path / "model"
    assert held() == []


def test_a_folder_s_copy_has_its_files_under_their_own_names_and_is_mended_and_bounded_like_files(
    s3: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = {"config.json": b"{}", "1_Pooling/config.json": b"[]", "model.safetensors": b"w" * 40}
    marks = {name: stored(s3 / "m" / name, content, tmp_path) for name, content in marks.items()}
    here = copies.verified_folder(s3 / "m", marks, "file of the encoder", REMEDY)
    assert (here / "1_Pooling" / "config.json").read_bytes() == b"[]"
    assert copies.verified_folder(s3 / "m", marks, "file of the encoder", REMEDY) == here
    assert held() == [here.name]

    (here / "model.safetensors").write_bytes(b"other")
    again = copies.verified_folder(s3 / "m", marks, "file of the encoder", REMEDY)
    assert (again / "model.safetensors").read_bytes() == b"w" * 40

    monkeypatch.setenv(copies.MOST, "0.00000005")
    old = 1_000_000_000
    os.utime(here, ns=(old, old))
    other = stored(s3 / "b", b"b" * 20, tmp_path)
    verified(s3 / "b", other, "model", REMEDY)
    assert here.name not in held()

    with pytest.raises(ArtifactError, match="is gone"):
        copies.verified_folder(s3 / "m", marks | {"lost.json": marks["config.json"]}, "file of the encoder", REMEDY)
    assert not [path for path in copies.host_folder("-copies").iterdir() if path.is_dir()]


def test_a_local_folder_is_read_where_it_lies_and_a_changed_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    marks = {"config.json": mark_file(folder / "config.json")}
    assert copies.verified_folder(Location.of(folder), marks, "file of the encoder", REMEDY) == folder
    (folder / "config.json").write_text("[]")
    with pytest.raises(ArtifactError, match=r"file of the encoder .*config.json is not the one that was written"):
        copies.verified_folder(Location.of(folder), marks, "file of the encoder", REMEDY)
