"""E4: 64 clips of 10 s to MFCCs, one thread, ours against librosa."""

from __future__ import annotations

import bench
import librosa
import numpy as np
import torch

from crossweave.encoders.mfcc import compute_mfcc

CLIPS, SECONDS, RATE = 64, 10, 16_000
FRAMES = {"n_mels": 64, "n_fft": 400, "hop_length": 160, "htk": True, "pad_mode": "reflect"}


def main() -> None:
    """Run both sides and keep the ratio."""
    torch.set_num_threads(1)
    waves = np.random.default_rng(0).standard_normal((CLIPS, SECONDS * RATE)).astype(np.float32) * 0.1

    def ours() -> list[torch.Tensor]:
        with torch.inference_mode():
            return [compute_mfcc(torch.from_numpy(wave), RATE, 20, 64, 400, 160) for wave in waves]

    def theirs() -> list[np.ndarray]:
        return [librosa.feature.mfcc(y=wave, sr=RATE, n_mfcc=20, norm="ortho", **FRAMES) for wave in waves]

    our, their = bench.seconds(ours), bench.seconds(theirs)
    mel = librosa.feature.melspectrogram(y=waves[0], sr=RATE, norm=None, **FRAMES)
    reference = librosa.feature.mfcc(S=librosa.power_to_db(mel, amin=1e-10, top_db=80.0), n_mfcc=20, norm="ortho")
    difference = np.abs(ours()[0].numpy().T - reference).max()
    bench.keep(
        "embed_audio",
        f"E4: MFCC of {CLIPS} clips of {SECONDS} s, one thread",
        "≥ 3×, equal values",
        [
            ("ours, times real time", f"{CLIPS * SECONDS / our:,.0f}"),
            ("librosa 0.11, times real time", f"{CLIPS * SECONDS / their:,.0f}"),
            ("ratio", f"{their / our:.1f}×"),
            ("largest difference to librosa with unnormed mel filters", f"{difference:.1e}"),
        ],
    )


if __name__ == "__main__":
    main()
