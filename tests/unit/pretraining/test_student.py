"""Smaller networks out of larger ones: what is kept is what was there, and what is saved loads as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from media_models import make_vit
from tiny import picture, tiny_bert, tiny_gpt
from trainable import make_shufflenet

from crossweave.config.pretraining import Student
from crossweave.encoders import make_encoder
from crossweave.encoders.neural import TrainableEncoder
from crossweave.errors import SettingsError
from crossweave.pretraining.student import become_student

TEXTS = ["red shirt", "the blue pan, steel", "cotton"]


def encoder_of(kind: str, folder: Path) -> TrainableEncoder:
    own = {"path": str(folder), "precision": "float32", "backend": "eager"}
    made = make_encoder("image" if kind == "vit" else "text", "transformer", own)
    assert isinstance(made, TrainableEncoder)
    return made


MAKERS = {"bert": tiny_bert, "gpt": tiny_gpt, "vit": make_vit}
LAYERS = {"bert": "encoder.layer", "gpt": "h", "vit": "layers"}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_student_is_saved_at_its_own_size_and_encodes_as_it_did(kind: str, tmp_path: Path) -> None:
    encoder = encoder_of(kind, MAKERS[kind](tmp_path / "whole"))
    network: Any = encoder.network()
    before = sum(weight.numel() for weight in network.parameters())
    become_student(network, Student(layers=1, neurons=0.5))
    examples = encoder.prepare([picture("red"), picture("blue")] if kind == "vit" else TEXTS).examples
    with torch.inference_mode():
        wanted = encoder.vectors(network, *encoder.collate(examples)).numpy()
    encoder.save(network, tmp_path / "student")
    again = encoder_of(kind, tmp_path / "student")
    again.load()
    np.testing.assert_allclose(again.encode(examples), wanted, atol=1e-5)
    assert sum(weight.numel() for weight in again.network().parameters()) < 0.8 * before
    assert again.fingerprint != encoder.fingerprint
    assert again.dim == encoder.dim


@pytest.mark.parametrize("kind", MAKERS)
def test_a_student_that_keeps_all_is_what_it_was(kind: str, tmp_path: Path) -> None:
    encoder = encoder_of(kind, MAKERS[kind](tmp_path / "whole"))
    network: Any = encoder.network()
    assert become_student(network, Student(layers=2, neurons=1.0)) == {}
    for name, value in encoder.network().state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_the_neurons_that_say_most_stay(tmp_path: Path) -> None:
    """Neurons of no weight are the ones that go, and the vectors stay as they were."""
    for kind, up, down in (("bert", "intermediate.dense", "output.dense"), ("gpt", "mlp.c_fc", "mlp.c_proj")):
        encoder = encoder_of(kind, MAKERS[kind](tmp_path / kind))
        network: Any = encoder.network()
        for layer in network.get_submodule(LAYERS[kind]):
            into, out = layer.get_submodule(up), layer.get_submodule(down)
            with torch.no_grad():
                if kind == "gpt":  # its weights lie the other way round
                    into.weight[:, ::2], into.bias[::2], out.weight[::2] = 0.0, 0.0, 0.0
                else:
                    into.weight[::2], into.bias[::2], out.weight[:, ::2] = 0.0, 0.0, 0.0
        batch = encoder.collate(encoder.prepare(TEXTS).examples)
        with torch.inference_mode():
            before = encoder.vectors(network, *batch)
            become_student(network, Student(neurons=0.5))
            torch.testing.assert_close(encoder.vectors(network, *batch), before, atol=1e-6, rtol=1e-5)
        sizes = {len(layer.get_submodule(up).bias) for layer in network.get_submodule(LAYERS[kind])}
        assert sizes == {16 if kind == "bert" else 32}


@settings(deadline=None, max_examples=20)
@given(share=st.floats(0.05, 0.95))
def test_the_smallest_weights_of_every_matrix_are_zero_and_no_others(share: float) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Embedding(5, 4), torch.nn.Linear(4, 12), torch.nn.LayerNorm(12), torch.nn.Conv2d(2, 3, 3)
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    masks = become_student(network, Student(zeros=share))
    assert masks.keys() <= {"1.weight", "3.weight"}
    for name, value in network.state_dict().items():
        if name not in masks:
            assert torch.equal(value, before[name])
            continue
        kept = masks[name].bool()
        assert (~kept).sum() == int(share * value.numel())
        assert torch.equal(value[kept], before[name][kept])
        assert not value[~kept].any()
        assert before[name][~kept].abs().max() <= before[name][kept].abs().min()


def test_what_a_model_does_not_have_is_said(tmp_path: Path) -> None:
    bert: Any = encoder_of("bert", tiny_bert(tmp_path / "bert")).network()
    with pytest.raises(SettingsError, match="the model has 2, 5 were to be kept"):
        become_student(bert, Student(layers=5))
    shufflenet = make_shufflenet(tmp_path).network()
    for student in (Student(layers=1), Student(neurons=0.5)):
        with pytest.raises(SettingsError, match="does not say how many"):
            become_student(shufflenet, student)
    assert become_student(shufflenet, Student(zeros=0.5))
