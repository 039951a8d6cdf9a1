"""MP3 files whose header says nothing of their length, or too little, and what may stand around their frames."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from crossweave.encoders.media import MediaError, decode_audio
from crossweave.encoders.mpeg_frames import count_frames

SAMPLED = 16_000  # Hz, of what is decoded
KINDS = {"constant": {}, "average": {"abr": "1"}, "variable": {"q": "4"}}


def mp3(rate: int, channels: int, kind: str, codec: str = "libmp3lame", header: bool = False) -> bytes:
    """Three seconds whose second half is loud, so that a variable bit rate varies."""
    stream, layout = io.BytesIO(), "mono" if channels == 1 else "stereo"
    options = {"write_xing": str(int(header)), "id3v2_version": "0"} if codec == "libmp3lame" else {}
    seconds = np.arange(3 * rate) / rate
    noise = 0.2 * (seconds > 1.5) * np.random.default_rng(1).standard_normal((channels, len(seconds)))
    wave = (0.3 * np.sin(2 * np.pi * 440 * seconds) + noise).clip(-1, 1).astype(np.float32)
    with av.open(stream, "w", format="mp3" if options else "mp2", options=options) as container:
        track = container.add_stream(codec, rate=rate, layout=layout)
        if kind == "variable":
            track.codec_context.flags |= 2  # AV_CODEC_FLAG_QSCALE
            track.codec_context.global_quality = 4 * 118
        else:
            track.bit_rate = 64_000
            track.options = KINDS[kind]
        form = "fltp" if options else "s16p"
        planes = wave if options else (wave * 32_767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format=form, layout=layout)
        frame.sample_rate = rate
        fit = av.AudioResampler(format="fltp" if options else "s16", layout=layout, rate=rate)
        for piece in fit.resample(frame):
            container.mux(track.encode(piece))
        container.mux(track.encode(None))
    return stream.getvalue()


def length(data: bytes) -> int:
    """How many samples FFmpeg finds where it decodes everything."""
    with av.open(io.BytesIO(data), format="mp3") as container:
        return sum(frame.samples for frame in container.decode(audio=0))


def refused(data: bytes, **limits: float) -> str:
    with pytest.raises(MediaError) as caught:
        decode_audio(data, SAMPLED, 30, **limits)
    return caught.value.reason


def id3(size: int, flags: int = 0) -> bytes:
    """An ID3v2.4 tag of so many bytes; 16 gives it a footer, 64 an extended header."""
    told = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    begin = b"\4\0" + bytes([flags]) + told
    return b"ID3" + begin + (b"\0\0\0\6\1\0" * (flags == 64)).ljust(size, b"\0") + (b"3DI" + begin) * (flags == 16)


FRONT = {"none": b"", "small": id3(10), "large": id3(1 << 20), "footer": id3(30, 16), "extended": id3(30, 64)}
FRONT |= {"two": id3(200) + id3(99), "padding behind": id3(10) + b"\0" * 700}
ID3V1 = b"TAG" + b"a title".ljust(125, b"\0")
APE = b"APETAGEX" + bytes.fromhex("d0070000 3b000000 01000000 00000080") + b"\0" * 59
LYRICS = b"LYRICSBEGININD0000200" + b"la " * 90 + b"000290LYRICS200"
BEHIND = {"none": b"", "id3v1": ID3V1, "ape": APE, "all": APE + LYRICS + ID3V1, "zeros": b"\0" * 3000}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (22_050, 2), (32_000, 1), (44_100, 1), (44_100, 2)])
def test_an_mp3_whose_header_says_no_length_is_as_long_as_its_frames(rate: int, channels: int, kind: str) -> None:
    data = mp3(rate, channels, kind)
    wave = decode_audio(data, rate, 30)
    assert len(wave) == length(data) >= 3 * rate
    assert len(decode_audio(data, rate, 1.25)) == int(1.25 * rate)
    assert refused(data, refuse_seconds=2.9) == "too_long"
    assert refused(data[:-10]) == refused(data[: len(data) * 6 // 10 | 1]) == "truncated"


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("kind", ["constant", "variable"])
def test_tags_in_front_and_behind_are_no_part_of_the_sound(kind: str, header: bool) -> None:
    data = mp3(44_100, 1, kind, header=header)
    bare = decode_audio(data, 44_100, 30).tobytes()
    for front in FRONT.values():
        assert decode_audio(front + data, 44_100, 30).tobytes() == bare
    for behind in BEHIND.values():
        assert decode_audio(FRONT["small"] + data + behind, 44_100, 30).tobytes() == bare


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("kind", ["constant", "variable"])
def test_all_of_several_files_one_after_another_is_read(kind: str, header: bool) -> None:
    data, other = mp3(44_100, 1, kind, header=header), mp3(22_050, 2, "constant")
    both = decode_audio(data + data, 44_100, 30)
    assert len(both) == length(data + data)
    assert decode_audio(data + ID3V1 + id3(3000) + data, 44_100, 30).tobytes() == both.tobytes()
    assert len(decode_audio(data + other, SAMPLED, 30)) == pytest.approx(6 * SAMPLED, rel=0.06)


def test_layers_one_and_two_are_counted_too() -> None:
    for rate, channels in ((16_000, 1), (44_100, 2)):
        data = mp3(rate, channels, "constant", "mp2")
        assert len(decode_audio(id3(50) + data + ID3V1, rate, 30)) == length(data)
    first = (b"\xff\xff\x40\xc0" + b"\0" * 132) * 3 + (b"\xff\xff\x42\xc0" + b"\0" * 136) * 2  # 128 kbit/s, padding
    counted = count_frames(first)
    assert counted is not None and (counted.samples, counted.cut) == (5 * 384, False)


def test_a_header_of_frauhofers_encoder_counts_for_what_is_missing() -> None:
    data = mp3(44_100, 1, "variable")
    counted = count_frames(data)
    assert counted is not None
    frames = counted.samples // 1152

    def told(count: int) -> bytes:
        named = b"VBRI" + b"\0" * 10 + count.to_bytes(4, "big")
        return (data[:2] + b"\x90" + data[3:4] + b"\0" * 32 + named).ljust(417, b"\0") + data

    assert len(decode_audio(told(frames), 44_100, 30)) == length(told(frames))
    assert refused(told(2 * frames)) == "truncated"


def test_frames_of_free_format_do_not_say_their_size_and_are_left_to_the_decoder() -> None:
    assert count_frames((b"\xff\xfb\x00\xc0" + b"\0" * 413) * 4) is None
    assert refused((b"\xff\xfb\x00\xc0" + b"\0" * 413) * 4) in {"truncated", "undecodable", "silent"}


def test_what_lies_in_the_working_folder_has_no_say_in_a_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mp3(44_100, 1, "variable", header=True)
    sounds = [whole, id3(20) + whole, mp3(44_100, 1, "constant"), mp3(16_000, 1, "constant", "mp2")]
    others = [
        id3(9) + b"\0" * 999,
        b"RIFF\x64\0\0\0SOND" + b"data\x40\0\0\0" + b"\0" * 80,
        b"\xff\xff\xff" + whole[3:99],
    ]
    before = [decode_audio(data, SAMPLED, 30).tobytes() for data in sounds], [refused(data) for data in others]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "._").write_bytes(b"a resource fork that is none" * 9)
    (tmp_path / ".AppleDouble").mkdir()
    after = [decode_audio(data, SAMPLED, 30).tobytes() for data in sounds], [refused(data) for data in others]
    assert after == before
    assert before[1] == ["undecodable"] * 3
