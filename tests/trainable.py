"""Encoders that can learn, one of each kind, with small weights made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny import tiny_bert, tiny_clip, tiny_vae, tiny_wav2vec2

from crossweave.encoders import make_encoder
from crossweave.encoders.huggingface import import_transformers
from crossweave.encoders.neural import TrainableEncoder
from crossweave.encoders.torchvision_compat import import_torchvision

PLAIN = {"precision": "float32", "backend": "eager"}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def make_vit(folder: Path) -> Path:
    """Save a ViT of two layers for pictures of 32 pixels."""
    transformers = import_transformers()
    torch.manual_seed(7)
    side = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.ViTConfig(**side, image_size=32, patch_size=8)
    transformers.ViTModel(config).save_pretrained(folder)
    facts = {"do_resize": True, "size": {"height": 32, "width": 32}, "do_normalize": True, **HALF}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return folder


def make_shufflenet(folder: Path, **own: object) -> TrainableEncoder:
    """Build an encoder of a small torchvision network with random weights and batch norms that have seen noise."""
    torchvision = import_torchvision()
    torch.manual_seed(8)
    model = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None)
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(16, 3, 32, 32))  # in training mode: fills what its batch norms know
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "net.safetensors")
    sizes = {"model": "shufflenet_v2_x0_5", "resize": 40, "crop": 32}
    return _trainable("image", "torchvision", sizes | {"weights": str(folder / "net.safetensors")} | own)


def _trainable(kind: str, name: str, own: dict[str, object]) -> TrainableEncoder:
    made = make_encoder(kind, name, PLAIN | own)
    assert isinstance(made, TrainableEncoder)
    return made


TRAINABLE = {
    "bert": lambda folder: _trainable("text", "transformer", {"path": str(tiny_bert(folder))}),
    "tags": lambda folder: _trainable("tags", "transformer", {"path": str(tiny_bert(folder))}),
    "clip": lambda folder: _trainable("image", "transformer", {"path": str(tiny_clip(folder))}),
    "vit": lambda folder: _trainable("image", "transformer", {"path": str(make_vit(folder))}),
    "torchvision": make_shufflenet,
    "cut": lambda folder: make_shufflenet(folder, layer="stage3.1"),
    "vae": lambda folder: _trainable("image", "vae", {"path": str(tiny_vae(folder))}),
    "wav2vec2": lambda folder: _trainable("audio", "transformer", {"path": str(tiny_wav2vec2(folder))}),
}
"""How each is made in a folder."""
