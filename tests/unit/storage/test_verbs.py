"""Every verb of a location, in every kind of store: the disk, a real S3 protocol and a real HDFS."""

from __future__ import annotations

import io
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossweave.storage.location import Location

NAMES = [
    "with space", "100%", "a%20b", "a+b", "k=v", "größe·名前", "a[1]", "star*", "q?x=1", "#hash", "a&b;c", "it's",
    "a,b", "b~", "a:b", "{x}", ".hidden", "$HOME",
]  # fmt: skip
BIG = 9 << 20  # bytes: more than one part of an upload


class TestContract:
    """What is promised of each verb; `root` comes once of each kind."""

    def test_what_is_put_is_read_back_and_replaced_whole(self, root: Location) -> None:
        place = root / "a" / "b.txt"
        place.put("grün\n")
        assert place.text() == "grün\n"
        place.put(b"\x00\xff")
        assert place.read() == b"\x00\xff"
        place.put(b"")
        assert place.read() == b""
        assert [str(found) for found in root.children()] == [str(root / "a")]
        assert (root / "a").children() == [place]

    def test_text_that_no_utf_8_has_is_put_all_the_same(self, root: Location) -> None:
        (root / "a").put("x\ud800y")
        assert (root / "a").text() == "x\\ud800y"

    def test_reading_what_is_not_there_raises_file_not_found(self, root: Location) -> None:
        (root / "there").put("x")
        for verb in (Location.read, Location.text, Location.open):
            with pytest.raises(FileNotFoundError):
                verb(root / "missing")
        with pytest.raises(FileNotFoundError):
            (root / "missing").download(Path("/dev/null"))

    def test_create_writes_only_where_there_is_nothing(self, root: Location) -> None:
        place = root / "log" / "0001"
        assert place.create("first")
        assert not place.create("second")
        assert place.text() == "first"
        assert place.parent.children() == [place]

    def test_of_twelve_threads_that_create_a_file_one_wins(self, root: Location) -> None:
        for number in range(5):
            place = root / "log" / f"{number}"
            with ThreadPoolExecutor(12) as pool:
                won = list(pool.map(lambda own, place=place: place.create(f"{own}"), range(12)))
            assert won.count(True) == 1
            assert place.text() == f"{won.index(True)}"
        assert len((root / "log").children()) == 5

    def test_twelve_threads_that_put_a_file_leave_one_of_theirs(self, root: Location) -> None:
        place = root / "new" / "file"
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda own: place.put(f"{own}" * 1000), range(12)))
        assert place.text() in {f"{own}" * 1000 for own in range(12)}
        assert place.parent.children() == [place]

    def test_an_entry_tells_size_time_and_version_of_a_file(self, root: Location) -> None:
        place = root / "a"
        assert place.entry() is None
        place.put("12345")
        first = place.entry()
        assert first is not None
        assert (first.size, first.modified.tzinfo is not None) == (5, True)
        assert place.entry() == first
        place.put("123456")
        second = place.entry()
        assert second is not None
        assert second.tag != first.tag

    def test_files_folders_and_what_is_not_there_are_told_apart(self, root: Location) -> None:
        (root / "folder" / "file").put("x")
        found = [(place.is_file(), place.is_folder(), place.exists()) for place in (
            root / "folder", root / "folder" / "file", root / "fold", root / "folder" / "file" / "below"
        )]  # fmt: skip
        assert found == [(False, True, True), (True, False, True), (False, False, False), (False, False, False)]

    def test_children_are_what_lies_directly_in_a_folder(self, root: Location) -> None:
        for name in ("b/2/x", "b/1", "a", "bb/3", "b/3/y", "b/3/z"):
            (root / name).put(name)
        assert [place.below(root) for place in root.children()] == ["a", "b", "bb"]
        assert [place.below(root) for place in (root / "b").children()] == ["b/1", "b/2", "b/3"]
        assert (root / "a").children() == []
        assert (root / "missing").children() == []

    def test_a_walk_yields_every_file_below_a_folder_by_path(self, root: Location) -> None:
        names = ["b/1", "b/2/deep/x", "b.txt", "bb/3", "a"]
        for name in names:
            (root / name).put(name)
        assert [(place.below(root), entry.size) for place, entry in root.walk()] == [(n, len(n)) for n in sorted(names)]
        assert [place.below(root) for place, _ in (root / "b").walk()] == ["b/1", "b/2/deep/x"]
        assert list((root / "a").walk()) == list((root / "missing").walk()) == []
        entries = dict(root.walk())
        assert all(place.entry() == entry for place, entry in entries.items())

    def test_an_open_file_is_read_anywhere(self, root: Location) -> None:
        content = bytes(range(256)) * 8000
        (root / "a").put(content)
        with (root / "a").open() as stream:
            assert stream.seek(-10, io.SEEK_END) == len(content) - 10
            assert stream.read() == content[-10:]
            assert stream.seek(1_500_000) == 1_500_000
            assert stream.read(700) == content[1_500_000:1_500_700]
            assert stream.tell() == 1_500_700
            assert stream.seek(5) == 5
            assert stream.read(3) == content[5:8]
            stream.seek(2, io.SEEK_CUR)
            assert stream.read(1) == content[10:11]
            assert stream.seekable() and stream.readable()
        with (root / "a").open() as stream:
            assert stream.read() == content

    def test_a_parquet_file_is_read_through_an_open_file(self, root: Location) -> None:
        table = pa.table({"id": list(range(50_000)), "name": [f"item {i}" for i in range(50_000)]})
        with (root / "t.parquet").placing() as stream:
            pq.write_table(table, stream, row_group_size=10_000)
        with (root / "t.parquet").open() as stream:
            file = pq.ParquetFile(stream)
            assert file.metadata.num_row_groups == 5
            assert file.read_row_group(3, ["id"]).column("id").to_pylist() == list(range(30_000, 40_000))

    @pytest.mark.parametrize("size", [0, 10, BIG])
    def test_files_go_up_and_come_down_as_they_were(self, root: Location, tmp_path: Path, size: int) -> None:
        content = os.urandom(size)
        (tmp_path / "source").write_bytes(content)
        place = root / "deep" / "er" / "file"
        place.put("before")
        place.upload(tmp_path / "source")
        found = place.entry()
        assert found is not None
        assert found.size == size
        place.download(tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == content == place.read()
        assert place.parent.children() == [place]

    def test_a_large_file_is_put_and_created_whole(self, root: Location) -> None:
        content = os.urandom(BIG)
        (root / "put").put(content)
        assert (root / "created").create(content)
        assert not (root / "created").create(b"other")
        assert (root / "put").read() == (root / "created").read() == content

    def test_a_stream_is_there_when_its_body_has_ended(self, root: Location) -> None:
        place = root / "a"
        with place.placing() as path, path.open("wb") as stream:
            stream.write(b"one ")
            assert not place.exists()
            stream.write(b"two")
        assert place.text() == "one two"

    def test_a_stream_whose_body_raises_leaves_what_was_before(self, root: Location) -> None:
        (root / "old").put("before")
        for name in ("old", "new"):
            with pytest.raises(ZeroDivisionError), (root / name).placing() as path, path.open("wb") as stream:
                stream.write(b"half")
                raise ZeroDivisionError
        assert {place.name: place.text() for place in root.children()} == {"old": "before"}

    def test_files_and_folders_are_removed_and_what_lies_beside_them_stays(self, root: Location) -> None:
        for name in ("a/1", "a/2/3", "ab", "b", "a.txt"):
            (root / name).put(name)
        (root / "a").remove()
        assert [place.below(root) for place, _ in root.walk()] == ["a.txt", "ab", "b"]
        assert not (root / "a").exists()
        (root / "b").remove()
        assert [place.name for place in root.children()] == ["a.txt", "ab"]
        (root / "missing").remove()
        (root / "missing" / "deeper").remove()
        root.remove()
        assert not root.exists() or root.path == "/"
        assert root.children() == []

    def test_names_mean_themselves_and_nothing_else(self, root: Location, tmp_path: Path) -> None:
        (tmp_path / "source").write_text("up")
        others = ["a1", "qax=1", "starfish", "x"]
        names = [name for name in NAMES if root.scheme != "hdfs" or ":" not in name]
        for name in [*names, *others]:
            (root / "n" / name).put(name)
            (root / name / "below").upload(tmp_path / "source")
        assert [place.name for place in (root / "n").children()] == sorted([*names, *others])
        assert [place.name for place, _ in (root / "n").walk()] == sorted([*names, *others])
        for name in names:
            place = root / "n" / name
            assert place.text() == name
            assert place.is_file() and not place.create("other")
            assert (root / name).is_folder()
            with place.open() as stream:
                assert stream.read().decode() == name
            assert Location.of(str(place)) == place
            place.remove()
            (root / name).remove()
            assert not place.exists() and not (root / name).exists()
        assert [place.name for place in (root / "n").children()] == others
        assert [place.name for place in root.children()] == sorted(["n", *others])

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_another_process_reads_and_writes_what_this_one_does(self, root: Location, method: str) -> None:
        if (root.scheme, method) == ("hdfs", "fork"):
            pytest.skip("hdfs-native's threads do not live on in a fork; nothing of ours speaks to HDFS in one")
        (root / "ours").put("ours")
        context = multiprocessing.get_context(method)
        process = context.Process(target=_answer, args=(root,))
        process.start()
        process.join(60)
        if process.is_alive():
            process.kill()
            pytest.fail("the other process hangs")
        assert process.exitcode == 0
        assert (root / "theirs").text() == "they read ours"


def _answer(root: Location) -> None:
    (root / "theirs").put("they read " + (root / "ours").text())


class TestObjects:
    """What only object stores have."""

    def test_an_object_that_marks_a_folder_is_no_file(self, s3: Location, s3_server) -> None:  # type: ignore[no-untyped-def]
        client = s3_server.client()
        for key in ("top/", "top/sub/", "empty/", "top/sub/file"):
            client.put_object(Bucket=s3.host, Key=key, Body=b"x" if key.endswith("file") else b"")
        assert [place.path for place, _ in s3.walk()] == ["/top/sub/file"]
        assert [place.path for place in s3.children()] == ["/empty", "/top"]
        assert [place.path for place in (s3 / "top").children()] == ["/top/sub"]
        assert not (s3 / "top").is_file() and (s3 / "top").is_folder()
        assert not (s3 / "empty").is_file()
        assert (s3 / "empty").children() == []
        (s3 / "top").remove()
        (s3 / "empty").remove()
        assert "Contents" not in client.list_objects_v2(Bucket=s3.host)

    def test_a_listing_of_many_pages_is_whole(self, s3: Location, s3_server) -> None:  # type: ignore[no-untyped-def]
        client = s3_server.client()
        for number in range(1001):
            client.put_object(Bucket=s3.host, Key=f"many/{number:05}", Body=b"")
        assert len((s3 / "many").children()) == len(list((s3 / "many").walk())) == 1001
        (s3 / "many").remove()
        assert s3.children() == []

    def test_an_object_and_a_folder_of_one_name_are_one_child(self, s3: Location) -> None:
        (s3 / "a").put("file")
        (s3 / "a" / "b").put("below")
        assert [place.path for place in s3.children()] == ["/a"]
        assert (s3 / "a").text() == "file"
        assert [place.path for place, _ in (s3 / "a").walk()] == ["/a/b"]
