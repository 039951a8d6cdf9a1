"""Small pictures, sounds and models, made on the spot."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import mido
import numpy as np
import soundfile
import torch
from PIL import Image, ImageDraw

from crossweave.encoders.huggingface import import_transformers
from crossweave.encoders.vae import Vae, VaeShape, save_vae

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "red",
    "blue",
    "shirt",
    "pan",
    "steel",
    "cotton",
    "the",
    ",",
    "s",
]


def picture(colour: str, size: tuple[int, int] = (90, 70), form: str = "JPEG") -> bytes:
    image = Image.new("RGB", size, colour)
    ImageDraw.Draw(image).ellipse((10, 10, 50, 60), fill="yellow", outline="black")
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def tone(hertz: float, seconds: float = 0.5, rate: int = 16_000, form: str = "WAV") -> bytes:
    stream = io.BytesIO()
    wave = 0.4 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    soundfile.write(stream, wave.astype(np.float32), rate, format=form)
    return stream.getvalue()


def tiny_bert(folder: Path) -> Path:
    transformers = import_transformers()

    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer = transformers.BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)})
    tokenizer.save_pretrained(folder)
    return folder


def tiny_gpt(folder: Path) -> Path:
    transformers = import_transformers()

    torch.manual_seed(2)
    config = transformers.GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=32)
    transformers.GPT2Model(config).save_pretrained(folder)
    tokenizer = transformers.BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)})
    tokenizer.save_pretrained(folder)
    return folder


def tiny_clip(folder: Path) -> Path:
    transformers = import_transformers()

    torch.manual_seed(3)
    side = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**side, "vocab_size": 40, "max_position_embeddings": 16},
        vision_config={**side, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_resize": True,
                "size": {"shortest_edge": 32},
                "resample": 3,
                "do_center_crop": True,
                "crop_size": {"height": 32, "width": 32},
                "do_normalize": True,
                "image_mean": [0.48, 0.46, 0.41],
                "image_std": [0.27, 0.26, 0.28],
            }
        )
    )
    return folder


WAVE_LAYERS = {
    "conv_dim": (16, 16),
    "conv_kernel": (10, 8),
    "conv_stride": (5, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
"""The first layers of a small Wav2Vec2 or HuBERT."""


def tiny_wav2vec2(folder: Path) -> Path:
    transformers = import_transformers()

    torch.manual_seed(4)
    config = transformers.Wav2Vec2Config(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        **WAVE_LAYERS,
    )
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16_000, "do_normalize": True}))
    return folder


def tiny_vae(folder: Path) -> Path:
    torch.manual_seed(5)
    save_vae(Vae(VaeShape(side=16, channels=(8, 12), latent=6)), folder)
    return folder


def word_file(path: Path) -> Path:
    numbers = np.random.default_rng(6).standard_normal((len(WORDS), 8)).round(3)
    path.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in zip(WORDS, numbers, strict=True)))
    return path


def array_file(path: Path) -> Path:
    rows = np.arange(16, dtype=np.float32).reshape(4, 4)
    rows[3, 1] = np.nan
    np.save(path, rows)
    return path


def tune(pitches: list[int], beats: float = 1.0, program: int = 0, tempo: int = 500_000) -> bytes:
    track = mido.MidiTrack(
        [mido.MetaMessage("set_tempo", tempo=tempo), mido.Message("program_change", program=program)]
    )
    for pitch in pitches:
        track.append(mido.Message("note_on", note=pitch, velocity=80, time=0))
        track.append(mido.Message("note_off", note=pitch, velocity=0, time=int(480 * beats)))
    stream = io.BytesIO()
    mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(file=stream)
    return stream.getvalue()


def video(
    colour: str,
    size: tuple[int, int] = (64, 64),
    form: str = "mp4",
    seconds: float = 0.8,
    tone_hertz: float | None = 440.0,
) -> bytes:
    """Ten frames a second that grow brighter, with a tone, none (None), or silence (0)."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=form) as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = *size, "yuv420p"
        sounds = container.add_stream("aac", rate=16_000, layout="mono") if tone_hertz is not None else None
        count = int(seconds * 10)
        for index in range(count):
            image = Image.blend(Image.new("RGB", size, colour), Image.new("RGB", size, "white"), index / (2 * count))
            container.mux(pictures.encode(av.VideoFrame.from_image(image)))
        container.mux(pictures.encode(None))
        if sounds is not None:
            wave = 0.4 * np.sin(2 * np.pi * (tone_hertz or 0.0) * np.arange(int(16_000 * seconds)) / 16_000)
            frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16_000
            container.mux(sounds.encode(frame))
            container.mux(sounds.encode(None))
    return stream.getvalue()


def sound_container(form: str, codec: str, wave: np.ndarray | None = None) -> bytes:
    """A second of 440 Hz, or a wave [channels, samples] of 16 kHz, in a container that FFmpeg writes."""
    rate = {"libopus": 48_000, "wmav2": 44_100}.get(codec, 16_000)
    planes = 0.4 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)[None] if wave is None else wave
    layout = "mono" if len(planes) == 1 else "stereo"
    stream = io.BytesIO()
    with av.open(stream, "w", format=form) as container:
        track = container.add_stream(codec, rate=rate, layout=layout)
        track.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes, np.float32), format="fltp", layout=layout)
        frame.sample_rate = rate
        track.codec_context.open()
        fit = av.AudioResampler(
            format=track.codec_context.format,
            layout=layout,
            rate=rate,
            frame_size=track.codec_context.frame_size or None,
        )
        for piece in (*fit.resample(frame), *fit.resample(None)):
            container.mux(track.encode(piece))
        container.mux(track.encode(None))
    return stream.getvalue()
