"""Decoding: what is told apart, what is bounded, and known answers."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import soundfile
from PIL import Image

from crossweave.encoders import make_encoder
from crossweave.encoders.batching import encode_values
from crossweave.encoders.media import MediaError, decode_audio, decode_image
from crossweave.encoders.resampling import resample


def packed(image: Image.Image, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def noise(width: int = 160, height: int = 120) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 255, (height, width, 3), dtype=np.uint8))


def sine(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def sound(wave: np.ndarray, rate: int = 16_000, form: str = "WAV", subtype: str | None = None) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format=form, subtype=subtype)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_cut_at_every_tenth_is_truncated_and_its_neighbours_stay(form: str) -> None:
    whole = packed(noise(), form)
    encoder = make_encoder("image", "descriptor", {})
    encoder.load()
    expected = encode_values(encoder, [whole])[0][0]
    for tenth in range(1, 10):
        cut = whole[: len(whole) * tenth // 10]
        vectors, positions, failures = encode_values(encoder, [whole, cut, whole])
        assert [(failure.position, failure.reason) for failure in failures] == [(1, "truncated")], tenth
        assert positions == [0, 2]
        np.testing.assert_array_equal(vectors, np.stack([expected, expected]))


def test_a_bomb_is_refused_from_its_header_alone() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    idat = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(MediaError, match="too_many_pixels"):
        decode_image(b"\x89PNG\r\n\x1a\n" + chunk + idat, 10**12, None)
    with pytest.raises(MediaError, match="too_many_pixels"):
        decode_image(packed(noise(100, 100)), 9_999, None)
    assert decode_image(packed(noise(100, 100)), 10_000, None).size == (100, 100)


def test_a_small_target_scales_a_jpeg_but_never_below_it() -> None:
    assert decode_image(packed(noise(1024, 768), "JPEG"), 10**7, 96).size == (128, 96)
    assert decode_image(packed(noise(1024, 768), "JPEG"), 10**7, 97).size == (256, 192)
    assert decode_image(packed(noise(1024, 768), "JPEG"), 10**7, None).size == (1024, 768)


def test_transparency_becomes_white_and_16_bits_keep_their_greys() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert decode_image(packed(clear), 100, None).getpixel((0, 0)) == (255, 255, 255)
    deep = Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16))
    assert decode_image(packed(deep), 100, None).getpixel((0, 0)) == (128, 128, 128)
    for mode in ("L", "P", "1", "LA", "CMYK"):
        form = "JPEG" if mode == "CMYK" else "PNG"
        assert decode_image(packed(Image.new(mode, (4, 4)), form), 100, None).mode == "RGB"


@pytest.mark.parametrize(
    ("form", "subtype"), [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", None), ("OGG", "VORBIS"), ("MP3", None)]
)
def test_each_sound_format_decodes_to_the_tone_and_is_truncated_when_cut(form: str, subtype: str | None) -> None:
    data = sound(sine(440, 16_000), form=form, subtype=subtype)
    wave = decode_audio(data, 16_000, 30)
    assert wave.dtype == np.float32
    assert abs(len(wave) - 16_000) <= 1
    assert np.abs(np.fft.rfft(wave)).argmax() == pytest.approx(440, abs=1)
    for share in (0.75, 0.5, 0.25):
        with pytest.raises(MediaError) as caught:
            decode_audio(data[: int(len(data) * share)], 16_000, 30)
        assert caught.value.reason == "truncated", share


def test_channels_are_averaged_and_long_clips_are_cut() -> None:
    stereo = np.stack([sine(440, 16_000, 2), np.zeros(32_000, np.float32)], axis=1)
    wave = decode_audio(sound(stereo, subtype="FLOAT"), 16_000, max_seconds=0.5)
    np.testing.assert_allclose(wave, sine(440, 16_000, 0.5) / 2, atol=1e-6)


def test_unusable_sounds_say_why() -> None:
    quiet = np.zeros(1000, np.float32)
    broken = sine(440, 16_000)
    broken[5] = np.nan
    for data, reason in (
        (b"", "empty"),
        (b"RIFF1234WAVEgarbage", "undecodable"),
        (sound(quiet[:0]), "empty"),
        (sound(quiet), "silent"),
        (sound(broken, subtype="FLOAT"), "non_finite"),
        (sound(sine(440, 16_000, 3)), "too_long"),
    ):
        with pytest.raises(MediaError) as caught:
            decode_audio(data, 16_000, 1, refuse_seconds=2)
        assert caught.value.reason in (reason, "truncated" if data[:5] == b"RIFF1" else reason), data[:8]


def test_a_streamed_wav_with_an_unknown_length_is_not_truncated() -> None:
    data = bytearray(sound(sine(440, 16_000)))
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    assert len(decode_audio(bytes(data), 16_000, 30)) == 16_000


@pytest.mark.parametrize(("rate_in", "rate_out"), [(44_100, 16_000), (8_000, 16_000), (16_001, 16_000)])
def test_a_resampled_tone_is_the_tone_at_the_other_rate(rate_in: int, rate_out: int) -> None:
    wave = resample(sine(1000, rate_in), rate_in, rate_out)
    expected = sine(1000, rate_out)
    assert len(wave) == len(expected)
    np.testing.assert_allclose(wave[200:-200], expected[200:-200], atol=5e-3)


def test_a_tone_above_the_new_limit_vanishes() -> None:
    assert np.abs(resample(sine(12_000, 44_100), 44_100, 16_000)[200:-200]).max() < 0.01
