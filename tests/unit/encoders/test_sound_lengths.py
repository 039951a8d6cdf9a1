"""Sounds whose headers do not know how long they are, channels that cancel, and containers that FFmpeg reads."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from tiny import sound_container

from crossweave.encoders import make_encoder
from crossweave.encoders.media import MediaError, decode_audio
from crossweave.encoders.waveforms import to_mono

RATE = 16_000


def sine(seconds: float = 2.0, hertz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def packed(form: str, subtype: str | None = "PCM_16", wave: np.ndarray | None = None, **more: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, sine() if wave is None else wave, RATE, format=form, subtype=subtype, **more)
    return stream.getvalue()


def patched(data: bytes, *places: tuple[int, bytes]) -> bytes:
    made = bytearray(data)
    for at, content in places:
        made[at : at + len(content)] = content
    return bytes(made)


def pitch(wave: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(wave)).argmax() * RATE / len(wave))


def refused(data: bytes, **limits: float) -> str:
    with pytest.raises(MediaError) as caught:
        decode_audio(data, RATE, 30, **limits)
    return caught.value.reason


WAV, RF64, AIFF, AU = (packed(form) for form in ("WAV", "RF64", "AIFF", "AU"))
DATA, SSND, COMM = WAV.index(b"data"), AIFF.index(b"SSND"), AIFF.index(b"COMM")
ZERO, FULL = b"\0" * 4, b"\xff" * 4
UNSIZED = {
    "wav zero": patched(WAV, (4, ZERO), (DATA + 4, ZERO)),
    "wav zero data alone": patched(WAV, (DATA + 4, ZERO)),
    "wav full": patched(WAV, (4, FULL), (DATA + 4, FULL)),
    "wav as sox has it": patched(WAV, (4, struct.pack("<I", 0x7FFFF024)), (DATA + 4, struct.pack("<I", 0x7FFFF000))),
    "wav of floats": patched(packed("WAV", "FLOAT"), (packed("WAV", "FLOAT").index(b"data") + 4, ZERO)),
    "wav after a list": patched(
        WAV[:DATA] + b"LIST\4\0\0\0INFO" + WAV[DATA:], (4, ZERO), (DATA + 16, ZERO)
    ),
    "rifx": patched(packed("WAV", endian="BIG"), (4, ZERO), (DATA + 4, ZERO)),
    "rf64 zero": patched(RF64, (20, b"\0" * 24)),
    "rf64 full": patched(RF64, (20, b"\xff" * 24)),
    "bw64": patched(RF64, (0, b"BW64")),
    "aiff zero": patched(AIFF, (4, ZERO), (SSND + 4, ZERO), (COMM + 10, ZERO)),
    "aiff full": patched(AIFF, (4, FULL), (SSND + 4, FULL), (COMM + 10, FULL)),
    "au full": patched(AU, (8, FULL)),
    "au zero": patched(AU, (8, ZERO)),
}  # fmt: skip
SLIGHTLY = {
    "wav": patched(WAV, (DATA + 4, struct.pack("<I", 64_100))),
    "rf64": patched(RF64, (28, struct.pack("<Q", 64_100))),
    "aiff": patched(AIFF, (SSND + 4, struct.pack(">I", 64_108))),
    "au": patched(AU, (8, struct.pack(">I", 64_100))),
}


@pytest.mark.parametrize("name", sorted(UNSIZED))
def test_a_sound_written_to_a_pipe_is_all_that_follows_its_header(name: str) -> None:
    wave = decode_audio(UNSIZED[name], RATE, 30)
    assert len(wave) == 32_000
    assert pitch(wave) == 440


@pytest.mark.parametrize("name", sorted(SLIGHTLY))
def test_a_size_that_is_some_bytes_too_large_is_no_cut_and_one_that_is_much_too_large_is(name: str) -> None:
    assert len(decode_audio(SLIGHTLY[name], RATE, 30)) == 32_000
    assert refused({"wav": WAV, "rf64": RF64, "aiff": AIFF, "au": AU}[name][:-20_000]) == "truncated"


def test_a_wav_that_means_to_be_empty_is_empty() -> None:
    empty = packed("WAV", wave=sine(0))
    assert refused(empty) == "empty"
    assert refused(empty + b"LIST\4\0\0\0INFO") == "empty"  # no sound, and more chunks behind


def flac_of(total: bytes) -> bytes:
    """A FLAC whose header gives its length in 36 bits as `total` says; zero is what a pipe leaves."""
    whole = packed("FLAC")
    return patched(whole, (21, bytes([whole[21] & 0xF0 | total[0]])), (22, total[1:]))


def test_a_length_that_no_header_gives_or_that_is_absurd_is_counted() -> None:
    for total in (b"\0" * 5, b"\x0f" + b"\xff" * 4):
        data = flac_of(total)
        wave = decode_audio(data, RATE, 30)
        assert (len(wave), pitch(wave)) == (32_000, 440)
        assert len(decode_audio(data, RATE, 0.5)) == 8_000
        assert refused(data, refuse_seconds=1.0) == "too_long"  # counted, not believed


def test_a_cut_mp3_is_truncated_where_its_header_says_so_and_never_lasts_for_ever() -> None:
    whole = packed("MP3", None)
    frames = whole.index(b"Xing") + 8
    assert len(decode_audio(whole, RATE, 30)) == 32_000
    assert refused(whole[: len(whole) // 2]) == "truncated"
    for count in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"):
        wave = decode_audio(patched(whole, (frames, count)), RATE, 30)
        assert abs(len(wave) - 32_000) < 2 * 1152 + 1200
        assert pitch(wave) == pytest.approx(440, abs=1)


CONTAINERS = {
    "m4a": ("ipod", "aac"),
    "mp4": ("mp4", "aac"),
    "3gp": ("3gp", "aac"),
    "aac": ("adts", "aac"),
    "lossless m4a": ("ipod", "alac"),
    "mov": ("mov", "pcm_s16le"),
    "webm": ("webm", "libopus"),
    "mka": ("matroska", "aac"),
    "wma": ("asf", "wmav2"),
    "caf": ("caf", "pcm_s16be"),
    "opus": ("ogg", "libopus"),
}


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_containers_that_phones_and_shops_have_give_the_tone_and_are_truncated_when_cut(name: str) -> None:
    data = sound_container(*CONTAINERS[name])
    wave = decode_audio(data, RATE, 30)
    assert wave.dtype == np.float32
    assert len(wave) == pytest.approx(16_000, abs=3_000)  # codecs pad, and cut, by their windows
    assert pitch(wave) == pytest.approx(440, abs=3)
    assert refused(data, refuse_seconds=0.5) == "too_long"
    for share in (0.75, 0.5, 0.25):
        assert refused(data[: int(len(data) * share)]) == "truncated"


def test_an_aac_stream_may_lie_between_tags() -> None:
    data = sound_container("adts", "aac")
    tagged = b"ID3\4\0\0\0\0\0\x10" + b"\0" * 16 + data + b"TAG" + b"\0" * 125
    assert decode_audio(tagged, RATE, 30).tobytes() == decode_audio(data, RATE, 30).tobytes()


def test_an_m4a_that_claims_weeks_is_counted() -> None:
    data = sound_container("ipod", "aac")
    places = [(data.index(box) + at, b"\x7f\xff\xff\xff") for box, at in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24))]
    assert len(decode_audio(patched(data, *places), RATE, 30)) == len(decode_audio(data, RATE, 30))


def test_a_flipped_m4a_is_refused_or_read_and_nothing_else() -> None:
    data = sound_container("ipod", "aac")
    rng = np.random.default_rng(1)
    for _ in range(60):
        torn = bytearray(data)
        for at in rng.integers(len(data) - 700, len(data), 4):
            torn[at] = int(rng.integers(256))
        try:
            assert np.isfinite(decode_audio(bytes(torn), RATE, 30)).all()
        except MediaError as error:
            assert error.reason in {"truncated", "undecodable", "no_sound", "silent", "non_finite", "too_long"}
        except MemoryError:
            pass  # a length in it asks for more than there is: too_much_memory in the quarantine


@pytest.mark.parametrize(
    "make",
    [
        lambda wave: packed("WAV", "FLOAT", wave),
        lambda wave: packed("FLAC", None, wave),
        lambda wave: sound_container("ipod", "alac", wave.T),
    ],
    ids=["wav", "flac", "m4a"],
)
def test_channels_in_opposite_phase_are_a_sound_and_not_silence(make: Callable[[np.ndarray], bytes]) -> None:
    wave = decode_audio(make(np.stack([sine(1), -sine(1)], axis=1)), RATE, 30)
    assert np.abs(wave).max() == pytest.approx(0.4, abs=0.01)
    assert pitch(wave) == pytest.approx(440, abs=1)
    one = make_encoder("audio", "mfcc", {})
    assert not one.prepare([make(np.stack([sine(1), -0.9 * sine(1)], axis=1))]).failures


def test_only_channels_that_cancel_give_the_loudest_instead_of_their_mean() -> None:
    rng = np.random.default_rng(2)
    left, right = rng.standard_normal((2, 4000)).astype(np.float32)

    def mixed(*channels: np.ndarray) -> np.ndarray:
        return to_mono(np.stack(channels, axis=1))

    np.testing.assert_allclose(mixed(left, right), (left + right) / 2, atol=1e-6)
    np.testing.assert_allclose(mixed(left, 0 * left), left / 2, atol=1e-6)
    np.testing.assert_allclose(mixed(left, *[0 * left] * 5), left / 6, atol=1e-6)
    np.testing.assert_array_equal(mixed(-0.5 * left, left), left)
    np.testing.assert_array_equal(mixed(left, -left, left, -left), left)
    np.testing.assert_allclose(mixed(left + 5, right - 5), (left + right) / 2, atol=1e-5)  # an offset is not heard
    assert not mixed(0 * left, 0 * left).any()
