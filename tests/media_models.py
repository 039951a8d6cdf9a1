"""Small picture and sound transformers, as transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny import WAVE_LAYERS

from crossweave.encoders.huggingface import import_transformers

SIDE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
PIXELS = {"image_size": 32, "patch_size": 8}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


def save_preprocessor(folder: Path, **facts: Any) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return folder


def make_siglip(folder: Path) -> Path:
    transformers = import_transformers()
    config = transformers.SiglipConfig(
        text_config={**SIDE, "vocab_size": 40, "max_position_embeddings": 16}, vision_config={**SIDE, **PIXELS}
    )
    transformers.SiglipModel(config).save_pretrained(folder)
    return save_preprocessor(folder, size={"height": 32, "width": 32}, resample=3, **HALF)


def make_vit(folder: Path) -> Path:
    transformers = import_transformers()
    transformers.ViTModel(transformers.ViTConfig(**SIDE, **PIXELS)).save_pretrained(folder)
    return save_preprocessor(folder, size=32, resample=2, **HALF)


def make_dinov2(folder: Path) -> Path:
    transformers = import_transformers()
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    return save_preprocessor(
        folder,
        size={"shortest_edge": 40},
        do_center_crop=True,
        crop_size={"height": 28, "width": 28},
        resample=3,
        **HALF,
    )


def make_hubert(folder: Path) -> Path:
    transformers = import_transformers()
    config = transformers.HubertConfig(
        **SIDE,
        **WAVE_LAYERS,
    )
    transformers.HubertModel(config).save_pretrained(folder)
    return save_preprocessor(folder, sampling_rate=8_000, do_normalize=False)


def make_ast(folder: Path) -> Path:
    transformers = import_transformers()
    config = transformers.ASTConfig(**SIDE, patch_size=16, num_mel_bins=32, max_length=64)
    transformers.ASTModel(config).save_pretrained(folder)
    transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    return folder
