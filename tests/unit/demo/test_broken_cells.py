"""Every deliberate fault is in the files, is broken in the way that broken.json says, and nothing else is broken."""

import io
import json
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from crossweave.demo import generate_shop

Row = dict[str, Any]

EXPECTED = {
    ("image", "truncated"),
    ("image", "undecodable"),
    ("image", "empty_content"),
    ("image", "too_many_pixels"),
    ("image", "wrong_format"),
    ("sound", "undecodable"),
    ("sound", "empty_content"),
    ("sound", "silent"),
    ("sound", "truncated"),
    ("style", "non_finite"),
    ("style", "wrong_dim"),
    ("text", "empty_content"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_shop(tmp_path_factory.mktemp("demo") / "shop", items=60, users=40, interactions=800).folder


@pytest.fixture(scope="module")
def items(folder: Path) -> list[Row]:
    return pq.read_table(folder / "items.parquet").to_pylist()


@pytest.fixture(scope="module")
def broken(folder: Path) -> list[Row]:
    return json.loads((folder / "broken.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cells(items: list[Row], broken: list[Row]) -> dict[tuple[str, str], Any]:
    """The broken cells by modality and reason."""
    return {(it["modality"], it["reason"]): items[it["row"]][it["column"]] for it in broken if it["modality"]}


def _load(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP"))
    image.load()
    return image


def test_every_fault_is_there_once_each_on_an_item_of_its_own(broken: list[Row], items: list[Row]) -> None:
    of_cells = [it for it in broken if it["modality"]]
    assert {(it["modality"], it["reason"]) for it in of_cells} == EXPECTED
    assert len({it["item_id"] for it in of_cells}) == len(of_cells) == len(EXPECTED)
    assert all(items[it["row"]]["item_id"] == it["item_id"] for it in of_cells)
    assert all(it["how"] for it in broken)


def test_the_truncated_image_is_a_jpeg_that_ends_too_early(cells: dict[tuple[str, str], Any]) -> None:
    content = cells["image", "truncated"]
    assert content.startswith(b"\xff\xd8\xff")
    assert not content.endswith(b"\xff\xd9")
    assert Image.open(io.BytesIO(content)).format == "JPEG"
    with pytest.raises(OSError, match="truncated"):
        _load(content)


def test_the_undecodable_image_and_sound_are_not_media(cells: dict[tuple[str, str], Any]) -> None:
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(cells["image", "undecodable"]))
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.read(io.BytesIO(cells["sound", "undecodable"]))


def test_the_empty_contents_are_present_but_empty(cells: dict[tuple[str, str], Any], items: list[Row]) -> None:
    assert cells["image", "empty_content"] == b""
    assert cells["sound", "empty_content"] == b""
    blank = cells["text", "empty_content"]
    assert blank and not blank.strip()
    title = next(row["title"] for row in items if row["description"] == blank)
    assert title and not title.strip()


def test_the_bomb_announces_900_million_pixels_with_valid_checksums(cells: dict[tuple[str, str], Any]) -> None:
    content = cells["image", "too_many_pixels"]
    assert len(content) < 2000
    at, kinds = 8, []
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        body = content[at + 4 : at + 8 + length]
        assert struct.unpack_from(">I", content, at + 8 + length) == (zlib.crc32(body),)
        kinds.append(body[:4])
        at += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack_from(">II", content, 16) == (30_000, 30_000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(content))


def test_the_image_of_a_wrong_format_is_a_whole_gif(cells: dict[tuple[str, str], Any]) -> None:
    image = Image.open(io.BytesIO(cells["image", "wrong_format"]))
    image.load()
    assert image.format == "GIF"
    with pytest.raises(OSError, match="cannot identify"):
        _load(cells["image", "wrong_format"])


def test_the_silent_sound_decodes_to_zeros(cells: dict[tuple[str, str], Any]) -> None:
    samples, rate = soundfile.read(io.BytesIO(cells["sound", "silent"]))
    assert rate == 16_000
    assert len(samples) >= 0.6 * rate
    assert not samples.any()


def test_the_truncated_sound_announces_more_samples_than_it_has(cells: dict[tuple[str, str], Any]) -> None:
    content = cells["sound", "truncated"]
    assert (content[:4], content[8:12], content[36:40]) == (b"RIFF", b"WAVE", b"data")
    (announced,) = struct.unpack_from("<I", content, 40)
    assert 0 < len(content) - 44 < announced


def test_the_vectors_hold_a_nan_and_a_wrong_length(cells: dict[tuple[str, str], Any]) -> None:
    not_finite, short = np.array(cells["style", "non_finite"]), np.array(cells["style", "wrong_dim"])
    assert (len(not_finite), np.isnan(not_finite).sum()) == (16, 1)
    assert len(short) == 11
    assert np.isfinite(short).all()


def test_rows_with_a_repeated_and_without_an_id_are_listed(broken: list[Row], items: list[Row]) -> None:
    listed = {it["reason"]: it for it in broken if it["table"] == "items" and it["modality"] is None}
    assert set(listed) == {"duplicate_id", "null_id"}
    ids = [row["item_id"] for row in items]
    repeated, nameless = listed["duplicate_id"], listed["null_id"]
    assert [row for row, item_id in enumerate(ids) if item_id is None] == [nameless["row"]]
    first = ids.index(repeated["item_id"])
    assert first < repeated["row"]
    assert ids[repeated["row"]] == repeated["item_id"]
    assert len(set(ids)) == len(ids) - 1
    assert items[first]["title"] != items[repeated["row"]]["title"]
    assert None not in items[first].values()


def test_interactions_with_unknown_items_are_listed(folder: Path, broken: list[Row], items: list[Row]) -> None:
    known = {row["item_id"] for row in items}
    events = pq.read_table(folder / "interactions.parquet", columns=["user_id", "item_id"]).to_pylist()
    strays = {(row, event["user_id"], event["item_id"]) for row, event in enumerate(events)}
    strays = {stray for stray in strays if stray[2] not in known}
    listed = [it for it in broken if it["table"] == "interactions"]
    assert {(it["row"], it["user_id"], it["item_id"]) for it in listed} == strays
    assert len(strays) == 3
    assert {it["reason"] for it in listed} == {"unknown_item"}


def test_everything_that_is_not_listed_is_sound(items: list[Row], broken: list[Row]) -> None:
    listed = {(it["row"], it["column"]) for it in broken}
    formats = set()
    for row, item in enumerate(items):
        if item["image"] is not None and (row, "image") not in listed:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                image = _load(item["image"])
            formats.add(image.format)
            assert 96 <= min(image.size) <= max(image.size) <= 160
        if item["sound"] is not None and (row, "sound") not in listed:
            with soundfile.SoundFile(io.BytesIO(item["sound"])) as sound:
                formats.add(sound.format)
                assert (sound.samplerate, sound.channels) == (16_000, 1)
                assert 0.6 <= sound.frames / sound.samplerate <= 1.2
                samples = sound.read()
            assert len(samples) == sound.frames
            assert 0.3 < np.abs(samples).max() < 1.0
        if item["style_vector"] is not None and (row, "style_vector") not in listed:
            assert len(item["style_vector"]) == 16
            assert np.isfinite(item["style_vector"]).all()
        if item["description"] is not None and (row, "description") not in listed:
            assert len(item["description"].split()) > 5
            assert item["title"].strip()
    assert formats == {"JPEG", "PNG", "WAV", "FLAC"}
