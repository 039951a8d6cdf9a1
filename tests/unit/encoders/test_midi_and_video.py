"""Tunes and videos: what their vectors say, and what becomes of files that are hostile or torn."""

from __future__ import annotations

import io
from typing import Any

import mido
import numpy as np
import pytest
import torch
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
