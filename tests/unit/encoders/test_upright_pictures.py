"""Pictures that a phone stored turned come out upright, for encoders and for the report, whatever else is noted."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from crossweave.encoders import make_encoder
from crossweave.encoders.base import Encoder
from crossweave.encoders.media import MediaError, decode_image
from crossweave.encoders.pictures import ImageEncoder
from crossweave.evaluation.pictures import shrink

Turn = Image.Transpose
STORED = {
    1: None,
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_90,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_270,
}
"""How a picture is stored that the tag turns back (TIFF 6.0, Exif 2.32)."""
FORMS = ("JPEG", "PNG", "WEBP")


def scene() -> Image.Image:
    image = Image.new("RGB", (240, 160), (250, 240, 230))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 80, 80), fill=(200, 30, 30))
    draw.ellipse((120, 40, 230, 150), fill=(20, 60, 180))
    draw.rectangle((0, 120, 240, 160), fill=(30, 140, 40))
    return image


def stored(tag: int, form: str = "JPEG", **more: object) -> bytes:
    """The scene as a camera that was held that way leaves it."""
    how = STORED[tag]
    stream = io.BytesIO()
    image = scene() if how is None else scene().transpose(how)
    image.save(stream, form, **({} if form == "PNG" else {"quality": 95}), **{"exif": noted(tag), **more})
    return stream.getvalue()


def noted(tag: int) -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x011A] = "Maker", tag, (72, 1)
    return exif.tobytes()


def difference(image: Image.Image) -> float:
    assert image.size == (240, 160)
    return float(np.abs(np.asarray(image).astype(int) - np.asarray(scene()).astype(int)).mean())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tag", sorted(STORED))
def test_all_eight_orientations_come_out_upright_in_every_format(tag: int, form: str) -> None:
    assert difference(decode_image(stored(tag, form), 10**6, None)) < 2


@pytest.mark.parametrize("form", FORMS)
def test_the_report_shows_what_the_encoder_saw(form: str) -> None:
    encoder = make_encoder("image", "descriptor", {})
    encoder.load()
    values = [stored(tag, form) for tag in STORED]
    vectors = encoder.encode(encoder.prepare(values).examples)
    cosines = vectors @ vectors[0] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[0])
    assert cosines.min() > 0.99
    for value in values:
        shown = Image.open(io.BytesIO(shrink(value, 240) or b""))
        assert difference(shown.convert("RGB")) < 4


def test_a_turned_jpeg_that_is_decoded_smaller_keeps_both_sides_above_the_target() -> None:
    stream = io.BytesIO()
    scene().resize((1024, 768)).transpose(Turn.ROTATE_90).save(stream, "JPEG", exif=noted(6))
    assert decode_image(stream.getvalue(), 10**7, 96).size == (128, 96)


def test_the_cap_on_pixels_holds_for_a_turned_picture() -> None:
    assert decode_image(stored(6), 240 * 160, None).size == (240, 160)
    with pytest.raises(MediaError, match="too_many_pixels"):
        decode_image(stored(6), 240 * 160 - 1, None)


def test_orientation_counts_in_little_endian_as_a_long_number_and_in_xmp_alone() -> None:
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        for field, value in ((3, struct.pack(f"{order}HH", 6, 0)), (4, struct.pack(f"{order}I", 6))):
            block = mark + struct.pack(f"{order}IHHHI", 8, 1, 0x0112, field, 1) + value + b"\0" * 4
            assert difference(decode_image(stored(6, exif=b"Exif\0\0" + block), 10**6, None)) < 2
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    assert difference(decode_image(stored(6, exif=b"", xmp=xmp), 10**6, None)) < 2


def png_with(chunk: bytes) -> bytes:
    whole = stored(6, "PNG")
    at = whole.index(b"IDAT") - 4
    return whole[:at] + chunk + whole[at:]


def chunk(name: bytes, content: bytes, checksum: int | None = None) -> bytes:
    crc = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x63\0\0\0",  # orientation 99
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\1\0\0\0\6\0\0\0",  # a text for a number
        b"Exif\0\0XX*\0" + b"\xff" * 40,
        b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 5000) + struct.pack(">HHII", 9, 1, 59_000, 8) * 5000,
    ],
    ids=["empty", "beyond", "torn", "99", "text", "garbage", "huge"],
)
def test_a_damaged_or_hostile_exif_block_leaves_a_good_picture_as_it_is_stored(form: str, block: bytes) -> None:
    assert difference(decode_image(stored(1, form, exif=block), 10**6, None)) < 2


def test_ten_thousand_flipped_bits_in_a_block_never_refuse_the_picture() -> None:
    whole, rng = stored(6), np.random.default_rng(5)
    start = whole.index(b"Exif")
    for _ in range(400):
        torn = bytearray(whole)
        for at in rng.integers(start, start + len(noted(6)), 25):
            torn[at] ^= 1 << int(rng.integers(8))
        assert decode_image(bytes(torn), 10**6, 96).mode == "RGB"


@pytest.mark.parametrize(
    "note",
    [
        chunk(b"tEXt", b"k\0x", checksum=0),
        chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 80_000_000)),
        chunk(b"pHYs", b"\1"),
        chunk(b"gAMA", b""),
        chunk(b"iCCP", b"x\0\0" + zlib.compress(b"x" * 80_000_000)),
    ],
    ids=["checksum", "long text", "pHYs", "gAMA", "profile"],
)
def test_a_png_s_damaged_note_is_passed_over_and_its_orientation_still_counts(note: bytes) -> None:
    assert difference(decode_image(png_with(note), 10**6, None)) < 2


def test_a_png_s_orientation_whose_checksum_is_wrong_is_not_believed() -> None:
    whole = bytearray(stored(1, "PNG", exif=noted(3)))
    whole[whole.index(b"eXIf") + 4 + len(noted(3)) - 6] ^= 0xFF  # its checksum
    assert difference(decode_image(bytes(whole), 10**6, None)) < 2


def test_a_png_that_is_torn_beside_its_notes_is_still_refused() -> None:
    whole = png_with(chunk(b"tEXt", b"k\0x", checksum=0))
    with pytest.raises(MediaError, match="truncated"):
        decode_image(whole[:-200], 10**6, None)
    broken = bytearray(whole)
    broken[whole.index(b"IDAT") + 30] ^= 0xFF
    with pytest.raises(MediaError):
        decode_image(bytes(broken), 10**6, None)


def test_a_phone_s_file_of_two_pictures_and_moving_ones_give_their_first() -> None:
    for form, first in (("MPO", 1), ("WEBP", 1), ("PNG", 1)):
        stream = io.BytesIO()
        scene().save(stream, form, save_all=True, append_images=[Image.new("RGB", (240, 160))], quality=95)
        assert difference(decode_image(stream.getvalue(), 10**6, None)) < 2, (form, first)


def test_grey_of_16_bits_that_is_declared_transparent_lies_on_the_ground() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.array([[0, 0x8000]], dtype=np.uint16)).save(stream, "PNG", transparency=0)
    image = decode_image(stream.getvalue(), 100, None, ground=(1, 2, 3))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(1, 2, 3), (128, 128, 128)]


def test_another_decoder_is_another_fingerprint_for_every_encoder_that_shares_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = make_encoder("image", "descriptor", {}).fingerprint, make_encoder("text", "hashing", {}).fingerprint
    monkeypatch.setattr(ImageEncoder, "decoder_version", ImageEncoder.decoder_version + 1)
    after = make_encoder("image", "descriptor", {}).fingerprint, make_encoder("text", "hashing", {}).fingerprint
    assert (before[0] == after[0], before[1] == after[1]) == (False, True)
    assert Encoder.decoder_version == 0  # a text's identity says nothing of decoders


def test_vectors_of_sideways_pictures_and_lost_sounds_are_not_taken_for_those_of_today() -> None:
    before = {
        ("image", "descriptor"): "c613816b689a4fc52eba0db3030ddf720ce8d1caf688dcd82dc6b606f9c66835",
        ("audio", "mfcc"): "29f381a53a23f0676e8d438519bf4e17ee28e34fcb248a2df28d814b132201ae",
        ("audio", "midi"): "0f212af46e20de27827525b87174cf2e929eee6fb242c7d84e697886dac4930f",
    }
    for entry, fingerprint in before.items():
        assert make_encoder(*entry, {}).fingerprint != fingerprint
