"""Small pictures, sounds and models, made on the spot."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image, ImageDraw

from crossweave.encoders.huggingface import import_transformers

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


def tiny_wav2vec2(folder: Path) -> Path:
    transformers = import_transformers()

    torch.manual_seed(4)
    config = transformers.Wav2Vec2Config(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16, 16),
        conv_kernel=(10, 8),
        conv_stride=(5, 8),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16_000, "do_normalize": True}))
    return folder
