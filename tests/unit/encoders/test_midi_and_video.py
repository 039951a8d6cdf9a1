"""Tunes and videos: what their vectors say, and what becomes of files that are hostile or torn."""

from __future__ import annotations

import io
import struct
from typing import Any

import av
import mido
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tiny import tune, video

from crossweave.encoders import make_encoder
from crossweave.encoders.base import BadValueError
from crossweave.encoders.batching import encode_values
from crossweave.encoders.containers import read_frames, read_sound
from crossweave.encoders.midi import describe, read_score
from crossweave.encoders.vae import Vae, VaeShape, negative_elbo


def score(data: bytes) -> Any:
    return read_score(data, 1_000_000, 10_000)


def test_a_tune_s_pitch_classes_lengths_and_tempo_are_what_was_written() -> None:
    vector = describe(score(tune([60, 60, 67, 72], beats=1.0, program=40, tempo=600_000)))
    np.testing.assert_allclose(vector[:12], [0.75, 0, 0, 0, 0, 0, 0, 0.25, 0, 0, 0, 0], atol=1e-6)
    lengths = vector[12 + 4 + 13 : 12 + 4 + 13 + 6]
    assert lengths.tolist() == [0, 0, 0, 1, 0, 0]  # quarter notes
    families = vector[40:57]
    assert np.argmax(families) == 40 // 8
    assert vector[57:60] == pytest.approx([100 / 120] * 3)
    assert vector[61:66].tolist() == [1, 0, 0, 0, 0]
    assert len(vector) == 73


def test_a_note_that_is_never_ended_lasts_to_the_end_of_its_track() -> None:
    track = mido.MidiTrack([mido.Message("note_on", note=60, velocity=64, time=0)])
    track.append(mido.Message("note_on", note=64, velocity=64, time=480))
    track.append(mido.Message("note_off", note=64, velocity=0, time=480))
    stream = io.BytesIO()
    mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(file=stream)
    notes = sorted(score(stream.getvalue()).notes)
    assert [(pitch, start, ticks) for pitch, start, ticks, _, _ in notes] == [(60, 0, 960), (64, 480, 480)]


SONG = tune([60])


def with_event(event: bytes) -> bytes:
    at = SONG.index(b"MTrk") + 4
    return SONG[:at] + struct.pack(">I", len(SONG) - at - 4 + len(event)) + event + SONG[at + 4 :]


@pytest.mark.parametrize(
    "data",
    [
        with_event(b"\0\xff\x59\2\x09\0"),  # a key of nine sharps
        with_event(b"\0\xff\x59\2\0\x07"),  # neither major nor minor
        with_event(b"\0\xff\x51\1\x09"),  # a tempo of one byte
        with_event(b"\0\xff\x51\3\0\0\0"),  # a beat of no time
        with_event(b"\0\xff\x54\5\xff\xff\xff\xff\xff"),  # an offset of 255 hours
        with_event(b"\0\xff\0\1\1"),  # half a sequence number
        with_event(b"\0\xff\x20\0"),  # a channel prefix of no channel
        with_event(b"\0\xff\x7f\2ab" + b"\0\xf0\2\1\xf7"),  # a maker's own, twice
        SONG[:14] + b"XFIH\0\0\0\4abcd" + SONG[14:],  # a chunk of another name
        b"RIFF\0\0\0\0RMIDdata" + struct.pack("<I", len(SONG)) + SONG,
        SONG + b"more",
    ],
)
def test_what_is_odd_beside_the_notes_of_a_tune_does_not_refuse_it(data: bytes) -> None:
    np.testing.assert_array_equal(describe(score(data)), describe(score(SONG)))


def test_a_clock_in_film_frames_is_read_as_two_beats_a_second_whatever_tempo_it_names() -> None:
    made = SONG.replace(struct.pack(">H", 480), struct.pack(">bB", -25, 40), 1)
    assert (score(made).ticks_a_beat, score(made).tempi) == (500, [])
    with pytest.raises(BadValueError, match="no ticks"):
        score(SONG.replace(struct.pack(">H", 480), b"\0\0", 1))


def test_running_status_carries_over_and_a_track_cannot_begin_with_it() -> None:
    notes = b"\0\x90\x3c\x40" + b"\x60\x3c\0" + b"\0\x3e\x40" + b"\x60\x3e\0"
    for events, wanted in ((notes, [(60, 0, 96), (62, 96, 96)]), (notes[:1] + notes[2:], None)):
        data = b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk" + struct.pack(">I", len(events)) + events
        if wanted is None:
            with pytest.raises(BadValueError, match="middle of an event"):
                score(data)
        else:
            assert [(pitch, start, ticks) for pitch, start, ticks, _, _ in score(data).notes] == wanted


def test_the_notes_are_those_that_mido_reads() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        track = mido.MidiTrack()
        for note, velocity, wait, channel in rng.integers((50, 0, 0, 0), (70, 128, 300, 16), (200, 4)).tolist():
            track.append(mido.Message("note_on", note=note, velocity=velocity, time=wait, channel=channel))
            track.append(mido.Message("pitchwheel", pitch=note, time=wait, channel=channel))
        stream = io.BytesIO()
        mido.MidiFile(ticks_per_beat=96, tracks=[track]).save(file=stream)
        now, struck = 0, []
        for message in mido.MidiFile(file=io.BytesIO(stream.getvalue())).tracks[0]:
            now += message.time
            if message.type == "note_on" and message.velocity:
                struck.append((message.note, now, message.velocity))
        assert sorted((pitch, start, loud) for pitch, start, _, loud, _ in score(stream.getvalue()).notes) == sorted(
            struck
        )


def test_every_truncation_of_a_tune_is_refused_or_read_and_nothing_else() -> None:
    whole = tune([60, 62, 64, 65])
    for size in range(1, len(whole)):
        try:
            assert np.isfinite(describe(score(whole[:size]))).all()
        except BadValueError as error:
            assert error.reason in ("truncated", "undecodable", "wrong_format", "no_notes")


def test_frames_come_from_the_middles_of_equal_parts_in_their_order() -> None:
    for form in ("mp4", "matroska", "avi"):
        frames = read_frames(video("black", form=form), 4, 1_000_000, 60, 100)
        brightness = [np.asarray(frame).mean() for frame in frames]
        assert len(frames) == 4, form
        assert brightness == sorted(brightness)  # the video grows brighter
        assert brightness[-1] - brightness[0] > 50


def test_a_video_with_fewer_frames_than_wanted_gives_what_it_has() -> None:
    assert 1 <= len(read_frames(video("red", seconds=0.3), 16, 1_000_000, 60, 100)) <= 3


def test_a_sound_track_comes_out_at_the_rate_asked_for() -> None:
    wave = read_sound(video("red", tone_hertz=440.0), 8_000, 30.0, 60.0)
    assert len(wave) == pytest.approx(0.8 * 8_000, rel=0.2)
    spectrum = np.abs(np.fft.rfft(wave))
    assert np.argmax(spectrum) * 8_000 / len(wave) == pytest.approx(440, abs=20)
    assert len(read_sound(video("red", seconds=2.0), 8_000, 0.5, 60.0)) == 4_000


Turn = Image.Transpose
HELD = {  # the display matrix's a, b, c, d, and how the pictures are stored that it shows upright
    "upright": ((1, 0, 0, 1), None),
    "left": ((0, -1, 1, 0), Turn.ROTATE_270),
    "head first": ((-1, 0, 0, -1), Turn.ROTATE_180),
    "right": ((0, 1, -1, 0), Turn.ROTATE_90),
    "mirrored": ((-1, 0, 0, 1), Turn.FLIP_LEFT_RIGHT),
    "flipped": ((1, 0, 0, -1), Turn.FLIP_TOP_BOTTOM),
    "transposed": ((0, 1, 1, 0), Turn.TRANSPOSE),
    "transverse": ((0, -1, -1, 0), Turn.TRANSVERSE),
}


@pytest.mark.parametrize("how", sorted(HELD))
def test_frames_of_a_phone_s_video_come_out_as_it_is_shown(how: str) -> None:
    scene = Image.new("RGB", (96, 64), (250, 240, 230))
    draw = ImageDraw.Draw(scene)
    draw.rectangle((0, 0, 32, 32), fill=(200, 30, 30))
    draw.rectangle((0, 48, 96, 64), fill=(30, 140, 40))
    (a, b, c, d), turn = HELD[how]
    stored = scene if turn is None else scene.transpose(turn)
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        track = container.add_stream("mpeg4", rate=10)
        track.width, track.height, track.pix_fmt, track.bit_rate = *stored.size, "yuv420p", 2_000_000
        track.set_display_matrix([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30])
        for _ in range(5):
            container.mux(track.encode(av.VideoFrame.from_image(stored)))
        container.mux(track.encode(None))
    for frame in read_frames(stream.getvalue(), 2, 1_000_000, 60, 100):
        assert frame.size == scene.size
        assert np.abs(np.asarray(frame).astype(int) - np.asarray(scene).astype(int)).mean() < 6


def test_a_video_whose_header_claims_weeks_is_read_and_counted() -> None:
    data = bytearray(video("black"))
    for box, offset in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        at = data.find(box)
        while at >= 0:
            data[at + offset : at + offset + 4] = b"\x7f\xff\xff\xff"
            at = data.find(box, at + 1)
    assert len(read_frames(bytes(data), 4, 1_000_000, 60, 100)) == 4
    assert len(read_sound(bytes(data), 8_000, 30.0, 60.0)) == pytest.approx(0.8 * 8_000, rel=0.2)


def test_a_sound_track_in_opposite_phase_is_no_silence() -> None:
    stream = io.BytesIO()
    with av.open(stream, "w", format="matroska") as container:
        track = container.add_stream("pcm_s16le", rate=16_000, layout="stereo")
        wave = 0.4 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
        planes = (np.stack([wave, -wave], axis=1).reshape(1, -1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(planes, format="s16", layout="stereo")
        frame.sample_rate = 16_000
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    assert np.abs(read_sound(stream.getvalue(), 16_000, 30.0, 60.0)).max() == pytest.approx(0.4, abs=0.01)


def test_a_video_s_vector_is_the_pooled_vector_of_its_frames() -> None:
    data = video("red")
    inner = make_encoder("image", "descriptor", {})
    inner.load()
    pictures = read_frames(data, 3, 1_000_000, 60, 100)
    rows = inner.encode([inner.prepare_picture(picture) for picture in pictures])  # type: ignore[attr-defined]
    for pool, wanted in {"mean": rows.mean(0), "both": np.concatenate([rows.mean(0), rows.max(0)])}.items():
        encoder = make_encoder("video", "frames", {"encoder": {"type": "descriptor"}, "frames": 3, "pool": pool})
        encoder.load()
        np.testing.assert_allclose(encode_values(encoder, [data, data])[0][1], wanted, rtol=1e-6)


@pytest.mark.parametrize("form", ["mp4", "matroska", "avi"])
def test_truncated_and_flipped_videos_are_refused_or_read_and_nothing_else(form: str) -> None:
    whole = video("red", form=form)
    encoder = make_encoder("video", "frames", {"encoder": {"type": "descriptor"}, "frames": 2})
    rng = np.random.default_rng(0)
    torn = [whole[: len(whole) * tenth // 10] for tenth in range(1, 10)]
    flipped = []
    for _ in range(20):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        flipped.append(bytes(data))
    failures = encoder.prepare([*torn, *flipped]).failures
    assert [failure.reason for failure in failures[: len(torn)]] == ["truncated"] * len(torn)
    assert {failure.reason for failure in failures} <= {
        *("truncated", "undecodable", "wrong_format", "too_many_pixels", "too_long", "no_video")
    }


def test_a_vae_learns_to_rebuild_and_its_loss_counts_error_and_divergence() -> None:
    pixels = torch.rand(2, 3, 8, 8)
    mean, log_variance = torch.zeros(2, 4), torch.zeros(2, 4)
    assert float(negative_elbo(pixels, pixels, mean, log_variance)) == 0  # perfect, and as the prior
    assert float(negative_elbo(pixels, pixels, mean + 1, log_variance)) == pytest.approx(0.5 * 4)
    torch.manual_seed(0)
    model = Vae(VaeShape(side=8, channels=(8,), latent=4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = negative_elbo(pixels, *model(pixels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
