"""Encoders that can learn: what is learned with is what encodes, and what is saved is what was learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import picture, tone
from trainable import TRAINABLE, make_shufflenet

from crossweave.config.pretraining import Tuning
from crossweave.encoders import make_encoder
from crossweave.encoders.neural import TrainableEncoder, write_changed
from crossweave.pretraining.kept import kept_by
from crossweave.pretraining.tuning import apply_tuning, save_tuned, trainable_share

VALUES = {
    "text": ["red shirt", "the blue pan, steel", "cotton"],
    "tags": [["red"], ["steel", "pan"], ["cotton", "the"]],
    "image": [picture("red"), picture("blue", (60, 90)), picture("green", (70, 70), "PNG")],
    "audio": [tone(440), tone(700, 0.7), tone(900, 0.6)],
}


def elsewhere(encoder: TrainableEncoder, folder: Path) -> TrainableEncoder:
    """Build an encoder again with what was saved in a folder."""
    setting, name = encoder.place
    own = encoder.settings.model_dump(mode="json", exclude_defaults=True)
    made = make_encoder(encoder.kind, encoder.name, own, places={setting: folder / name})
    assert isinstance(made, TrainableEncoder)
    return made


@pytest.mark.parametrize("name", TRAINABLE)
def test_what_a_network_learns_is_what_its_files_encode(name: str, tmp_path: Path) -> None:
    encoder = TRAINABLE[name](tmp_path / "base")
    values = VALUES[encoder.kind]
    encoder.load()
    examples = encoder.prepare(values).examples
    network = apply_tuning(encoder.network(), Tuning(method="full"), 10)
    if encoder.kind != "audio":  # of which short ones are repeated in a batch
        with torch.no_grad():
            as_it_came = encoder.vectors(network, *encoder.collate(examples)).numpy()
        np.testing.assert_allclose(encoder.encode(examples), as_it_came, atol=2e-5, rtol=1e-4)

    encoder.vectors(network, *encoder.collate(examples)).square().sum().backward()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.grad is not None:
                weight -= 0.05 * weight.grad / (weight.grad.norm() + 1e-6)
    with torch.no_grad():
        wanted = [encoder.vectors(network, *encoder.collate([one])).numpy()[0] for one in examples]
    encoder.save(network, tmp_path / "learned")
    again = elsewhere(encoder, tmp_path / "learned")
    assert (again.dim, again.kind) == (encoder.dim, encoder.kind)
    assert again.fingerprint != encoder.fingerprint
    again.load()
    np.testing.assert_allclose(again.encode(examples), np.stack(wanted), atol=2e-5, rtol=1e-4)
    assert not np.allclose(again.encode(examples), encoder.encode(examples), atol=1e-4)


@pytest.mark.parametrize("name", ["vit", "clip", "siglip", "torchvision", "cut", "wav2vec2", "ast"])
@pytest.mark.parametrize("method", ["lora", "last"])
def test_parts_of_media_networks_learn_and_are_merged(method: str, name: str, tmp_path: Path) -> None:
    encoder = TRAINABLE[name](tmp_path / "base")
    tuning = Tuning(method=method, rank=2, layers=1)
    network = apply_tuning(encoder.network(), tuning, 10)
    learns, whole = trainable_share(network)
    assert 0 < learns < whole
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.ones_like(parameter))
    network.eval()
    examples = encoder.prepare(VALUES[encoder.kind]).examples
    with torch.no_grad():
        wanted = [encoder.vectors(network, *encoder.collate([one])).numpy()[0] for one in examples]
    save_tuned(encoder, network, tuning, tmp_path / "learned", tmp_path / "adapter")
    again = elsewhere(encoder, tmp_path / "learned")
    again.load()
    np.testing.assert_allclose(again.encode(examples), np.stack(wanted), atol=2e-5, rtol=1e-3)


def test_an_autoencoder_learns_by_an_adapter(tmp_path: Path) -> None:
    encoder, tuning = TRAINABLE["vae"](tmp_path / "base"), Tuning(rank=2)
    network = apply_tuning(encoder.network(), tuning, 10)
    batch = encoder.collate(encoder.prepare(VALUES["image"]).examples)
    encoder.vectors(network, *batch).square().sum().backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in network.parameters())
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight += 0.02
        wanted = encoder.vectors(network.eval(), *batch).numpy()
    save_tuned(encoder, network, tuning, tmp_path / "learned", tmp_path / "adapter")
    again = elsewhere(encoder, tmp_path / "learned")
    again.load()
    np.testing.assert_allclose(again.encode(encoder.prepare(VALUES["image"]).examples), wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["wav2vec2", "hubert"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_every_step_reaches_the_same_weights(method: str, name: str, tmp_path: Path) -> None:
    """Ranks that leave out different layers would wait for each other's gradients for ever."""
    encoder = TRAINABLE[name](tmp_path)
    batch = encoder.collate(encoder.prepare(VALUES["audio"]).examples)
    network = apply_tuning(encoder.network(), Tuning(method=method), 10).train()
    reached = set()
    for seed in range(25):
        torch.manual_seed(seed)
        network.zero_grad(set_to_none=True)
        encoder.vectors(network, *batch).sum().backward()
        reached.add(frozenset(n for n, weight in network.named_parameters() if weight.grad is not None))
    assert len(reached) == 1


def test_attention_of_torch_itself_gets_no_adapter_that_it_would_not_read(tmp_path: Path) -> None:
    network = apply_tuning(TRAINABLE["siglip"](tmp_path).network(), Tuning(method="lora"), 10)
    assert not [n for n, weight in network.named_parameters() if "head.attention" in n and weight.requires_grad]


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_skeleton_has_the_shapes_of_the_network(name: str, tmp_path: Path) -> None:
    encoder = TRAINABLE[name](tmp_path)
    there = {n: value.shape for n, value in encoder.network().named_parameters()}
    assert {n: value.shape for n, value in encoder.skeleton().named_parameters()} == there
    assert sum(value.is_meta for value in encoder.skeleton().parameters()) >= len(there) - 2


def test_files_in_parts_are_copied_with_what_says_which(tmp_path: Path) -> None:
    encoder = TRAINABLE["sharded"](tmp_path / "base")
    encoder.copy_files(tmp_path / "copy")
    again = elsewhere(encoder, tmp_path / "copy")
    assert again.fingerprint == encoder.fingerprint
    again.load()


@pytest.mark.parametrize("name", TRAINABLE)
def test_what_is_kept_of_a_content_is_nearly_what_is_encoded(name: str, tmp_path: Path) -> None:
    encoder = TRAINABLE[name](tmp_path / "base")
    kept = kept_by(encoder)
    bad = {"text": " ", "tags": [" "], "image": b"nothing", "audio": b"nothing"}[encoder.kind]
    prepared = kept.prepare([*VALUES[encoder.kind], bad])
    assert prepared.positions == [0, 1, 2]
    assert [failure.position for failure in prepared.failures] == [3]
    assert all(isinstance(data, bytes) for data in prepared.examples)
    encoder.load()
    wanted = encoder.encode(encoder.prepare(VALUES[encoder.kind]).examples)
    found = encoder.encode([kept.example(data) for data in prepared.examples])
    cosines = (wanted * found).sum(axis=1) / np.linalg.norm(wanted, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > (0.999999 if encoder.kind in ("text", "tags") else 0.97)


@pytest.mark.parametrize("method", ["lora", "last", "full"])
@pytest.mark.parametrize("name", ["bert", "vit", "clip", "wav2vec2"])
def test_less_memory_gives_the_same_gradient(name: str, method: str, tmp_path: Path) -> None:
    """With dropout and all that chance decides: what is computed again draws the same numbers again."""
    encoder = TRAINABLE[name](tmp_path)
    batch = encoder.collate(encoder.prepare(VALUES[encoder.kind]).examples)

    def gradient(checkpointed: bool) -> torch.Tensor:
        torch.manual_seed(0)
        network: Any = encoder.network()
        if checkpointed:
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        network = apply_tuning(network, Tuning(method=method, layers=1), 10).train()
        torch.manual_seed(1)
        encoder.vectors(network, *batch).square().sum().backward()
        return torch.cat([weight.grad.flatten() for weight in network.parameters() if weight.grad is not None])

    torch.testing.assert_close(gradient(True), gradient(False), atol=1e-6, rtol=1e-4)


def test_long_thin_pictures_are_kept_small(tmp_path: Path) -> None:
    kept = kept_by(make_shufflenet(tmp_path))
    (data,) = kept.prepare([picture("red", (2400, 60))]).examples
    assert kept.picture(data).size == (320, 8)  # type: ignore[attr-defined]


def test_a_text_side_stays_beside_a_picture_side_that_learned(tmp_path: Path) -> None:
    encoder = TRAINABLE["clip"](tmp_path / "base")
    network = encoder.network()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1.0)
    encoder.save(network, tmp_path / "learned")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "learned"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("vision_model.", "visual_projection.")) for name in changed)
    assert not any(name.startswith("vision_model.") for name in before.keys() - changed if "position_ids" not in name)


def test_weights_without_a_place_are_not_lost(tmp_path: Path) -> None:
    encoder = TRAINABLE["vit"](tmp_path / "base")
    with pytest.raises(ValueError, match="no place in the files, such as odd"):
        write_changed([tmp_path / "base" / "model.safetensors"], {"odd": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert encoder.kind == "image"


def test_named_weights_keep_their_preprocessing_where_others_take_their_place(tmp_path: Path) -> None:
    own = {"model": "resnet50", "weights": "ResNet50_Weights.IMAGENET1K_V2"}
    named = make_encoder("image", "torchvision", own)
    moved = make_encoder("image", "torchvision", own, places={"weights": tmp_path / "other.safetensors"})
    facts = ("resize", "crop", "mean", "std", "interpolation")
    assert [getattr(moved.settings, fact) for fact in facts] == [getattr(named.settings, fact) for fact in facts]
    assert moved.settings.resize == 232  # type: ignore[attr-defined]
    assert json.loads(moved.settings.model_dump_json())["weights"] == str(tmp_path / "other.safetensors")
