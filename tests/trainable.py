"""Encoders that can learn, one of each kind, with small weights made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from media_models import make_ast, make_dinov2, make_hubert, make_siglip, make_vit
from safetensors.torch import load_file, save_file
from tiny import tiny_bert, tiny_clip, tiny_vae, tiny_wav2vec2

from crossweave.encoders import make_encoder
from crossweave.encoders.neural import TrainableEncoder
from crossweave.encoders.torchvision_compat import import_torchvision
from crossweave.encoders.weights import INDEX

PLAIN = {"precision": "float32", "backend": "eager"}


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


def in_parts(folder: Path) -> Path:
    """Save the weights of a directory as two files and an index, as transformers does with large ones."""
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    named = {}
    for number, names in enumerate((sorted(whole)[::2], sorted(whole)[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: whole[name] for name in names}, folder / file, metadata={"format": "pt"})
        named |= dict.fromkeys(names, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": named}), encoding="utf-8")
    return folder


def _trainable(kind: str, name: str, own: dict[str, object]) -> TrainableEncoder:
    made = make_encoder(kind, name, PLAIN | own)
    assert isinstance(made, TrainableEncoder)
    return made


TRAINABLE = {
    "bert": lambda folder: _trainable("text", "transformer", {"path": str(tiny_bert(folder))}),
    "tags": lambda folder: _trainable("tags", "transformer", {"path": str(tiny_bert(folder))}),
    "sharded": lambda folder: _trainable("text", "transformer", {"path": str(in_parts(tiny_bert(folder)))}),
    "sharded clip": lambda folder: _trainable("image", "transformer", {"path": str(in_parts(tiny_clip(folder)))}),
    "siglip": lambda folder: _trainable("image", "transformer", {"path": str(make_siglip(folder))}),
    "dinov2": lambda folder: _trainable("image", "transformer", {"path": str(make_dinov2(folder))}),
    "hubert": lambda folder: _trainable("audio", "transformer", {"path": str(make_hubert(folder))}),
    "ast": lambda folder: _trainable("audio", "transformer", {"path": str(make_ast(folder))}),
    "clip": lambda folder: _trainable("image", "transformer", {"path": str(tiny_clip(folder))}),
    "vit": lambda folder: _trainable("image", "transformer", {"path": str(make_vit(folder))}),
    "torchvision": make_shufflenet,
    "cut": lambda folder: make_shufflenet(folder, layer="stage3.1"),
    "vae": lambda folder: _trainable("image", "vae", {"path": str(tiny_vae(folder))}),
    "wav2vec2": lambda folder: _trainable("audio", "transformer", {"path": str(tiny_wav2vec2(folder))}),
}
"""How each is made in a folder."""
