"""Which weights change under every method, and that what is saved encodes as what was tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_bert, tiny_gpt

from crossweave.config.pretraining import Tuning
from crossweave.encoders import make_encoder
from crossweave.encoders.huggingface import import_transformers
from crossweave.errors import SettingsError
from crossweave.pretraining.tuning import apply_tuning, is_adapter, save_tuned, trainable_share

IDS = torch.tensor([[2, 5, 7, 3], [2, 8, 6, 3]])
TEXTS = ["red shirt", "blue pan"]
METHODS = ["full", "last", "lora", "adalora", "ia3"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gpt(tmp_path_factory.mktemp("gpt"))


def tuned(base: Path, tuning: Tuning, steps: int = 3) -> Any:
    """Return a model after some steps towards anything."""
    torch.manual_seed(4)
    model = apply_tuning(import_transformers().AutoModel.from_pretrained(str(base)), tuning, total_steps=30)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        states = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state
        (states[:, -1] * torch.linspace(-1, 1, 16)).square().mean().backward()
        optimizer.step()
    return model.eval()


def plain(base: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = import_transformers().AutoModel.from_pretrained(str(base)).state_dict()
    return found


def changed(model: Any, base: Path) -> set[str]:
    """Return the names of the base's own weights that are other ones now."""
    now = {name.replace(".base_layer", ""): value for name, value in model.state_dict().items()}
    now |= {name.removeprefix("base_model.").removeprefix("model."): value for name, value in now.items()}
    return {name for name, value in plain(base).items() if not torch.equal(now[name], value)}


@pytest.mark.parametrize("method", ["lora", "adalora", "ia3"])
def test_an_adapter_leaves_the_weights_alone_and_is_a_small_share(method: str, bert: Path) -> None:
    model = tuned(bert, Tuning(method=method, rank=2))
    assert not changed(model, bert)
    learns, whole = trainable_share(model)
    assert 0 < learns < whole / 5


def test_the_last_layers_alone_change(bert: Path, gpt: Path) -> None:
    for base, mark in ((bert, "encoder.layer.1."), (gpt, "h.1.")):
        found = changed(tuned(base, Tuning(method="last", layers=1)), base)
        assert found
        assert all(name.startswith(mark) for name in found)
    everything = changed(tuned(bert, Tuning(method="last", layers=9)), bert)
    assert {name.split(".")[2] for name in everything} == {"0", "1"}


def test_full_tuning_reaches_every_weight_that_the_states_depend_on(bert: Path) -> None:
    missed = set(plain(bert)) - changed(tuned(bert, Tuning(method="full")), bert)
    assert all(name.startswith("pooler.") or "position_ids" in name or name.endswith("key.bias") for name in missed)


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_encodes_as_what_was_tuned(method: str, merge: bool, bert: Path, tmp_path: Path) -> None:
    tuning = Tuning(method=method, merge=merge, rank=2)
    folder, model = tmp_path / "model", tuned(bert, tuning)
    base = make_encoder("text", "transformer", {"path": str(bert)})
    with torch.inference_mode():
        texts = base.prepare(TEXTS).examples
        wanted = [model(input_ids=torch.tensor(ids)[None]).last_hidden_state[0, 0].numpy() for ids in texts]
    save_tuned(base, model, tuning, folder, tmp_path / "adapter")
    beside = is_adapter(tuning) and not merge
    assert (tmp_path / "adapter").exists() == beside
    own = {"path": str(bert if beside else folder), "pooling": "cls", "precision": "float32", "backend": "eager"}
    encoder = make_encoder("text", "transformer", own | ({"adapter": str(tmp_path / "adapter")} if beside else {}))
    encoder.load()
    np.testing.assert_allclose(encoder.encode(encoder.prepare(TEXTS).examples), np.stack(wanted), atol=1e-5)
    as_it_came = make_encoder("text", "transformer", own | {"path": str(bert)})
    assert encoder.fingerprint != as_it_came.fingerprint


def test_a_prefix_is_kept_beside_the_weights_whatever_is_asked(gpt: Path, tmp_path: Path) -> None:
    tuning = Tuning(method="prefix", virtual_tokens=3)
    model = tuned(gpt, tuning)
    assert not changed(model, gpt)
    base = make_encoder("text", "transformer", {"path": str(gpt)})
    save_tuned(base, model, tuning, tmp_path / "model", tmp_path / "adapter")
    assert not (tmp_path / "model").exists()
    encoder = make_encoder("text", "transformer", {"path": str(gpt), "adapter": str(tmp_path / "adapter")})
    encoder.load()
    assert np.isfinite(encoder.encode(encoder.prepare(TEXTS).examples)).all()


def test_a_method_that_does_not_fit_the_model_says_so() -> None:
    for method in ("prefix", "ia3"):
        with pytest.raises(SettingsError, match=rf"tune\.method {method} does not fit"):
            apply_tuning(_Odd(), Tuning(method=method), 10)
    with pytest.raises(SettingsError, match="are not numbered"):
        apply_tuning(_Odd(), Tuning(method="last"), 10)


class _Odd(torch.nn.Module):
    """A model that no adapter knows."""

    def __init__(self) -> None:
        super().__init__()
        self.config = import_transformers().PretrainedConfig()
        self.inside = torch.nn.Linear(2, 2)
