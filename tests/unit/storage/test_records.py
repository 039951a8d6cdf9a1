"""Small files appear whole or not at all, and fingerprints follow the content alone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from crossweave.errors import TableError
from crossweave.storage.copies import mark_file
from crossweave.storage.location import Location
from crossweave.storage.records import digest, read_json, write_json


def test_a_value_comes_back_as_it_was_written(tmp_path: Path) -> None:
    value = {"name": "ü\n", "list": [1, 2.5, None, True], "deep": {"a": {}}}
    path = tmp_path / "new" / "folder" / "value.json"
    write_json(path, value)
    assert read_json(path) == value
    assert os.listdir(path.parent) == ["value.json"]  # noqa: PTH208 - hidden files too


def test_a_write_that_dies_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"version": 1})

    def dies(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"version": 2})
    assert read_json(path) == {"version": 1}


def test_a_write_replaces_the_file_and_never_opens_it_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "text"
    Location.of(path).put("old")
    with path.open(encoding="utf-8") as reader:
        Location.of(path).put("new and longer")
        assert reader.read() == "old"
    assert path.read_text(encoding="utf-8") == "new and longer"


@pytest.mark.parametrize("torn", [b"", b'{"rows": 1', b"\xff\xfe\x00", b"{'rows': 1}"])
def test_a_torn_json_file_is_refused_by_name(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "receipt.json"
    path.write_bytes(torn)
    with pytest.raises(TableError) as caught:
        read_json(path)
    assert caught.value.message.startswith(f"{path} is not readable as JSON")


def test_a_digest_knows_every_value_and_every_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) != digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1, "b": [1, 2]}) == digest({"a": 1, "b": [1, 2]})
    assert len({digest(v) for v in ({"a": 1}, {"a": "1"}, {"a": 2}, {"a": [1]}, {"A": 1}, [["a", 1]])}) == 6
    assert digest([1, 2]) != digest([2, 1])
    assert digest({}) == hashlib.sha256(b"{}").hexdigest()


def test_the_checksum_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(b"abc")
    assert mark_file(path).sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
