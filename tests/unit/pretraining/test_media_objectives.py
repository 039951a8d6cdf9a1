"""Objectives of pictures, pairs and students beside plain formulas, and what steps by them come to."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media_models import make_vit
from PIL import Image
from tiny import tiny_bert, tiny_vae
from trainable import PLAIN, make_shufflenet

from crossweave.alignment import find
from crossweave.encoders import make_encoder
from crossweave.pretraining.objectives import OBJECTIVES
from crossweave.pretraining.objectives.base import Corpus, Objective

WIDTH = 6


@functools.cache
def pictures(count: int = 48) -> list[bytes]:
    """Return pictures of two kinds, each with a scene of its own."""
    draw, made = np.random.default_rng(0), []
    for number in range(count):
        small = draw.integers(0, 256, (4, 4, 3)) // 2 + (0, 120)[number % 2]
        stream = io.BytesIO()
        Image.fromarray(small.astype(np.uint8)).resize((48, 48), Image.Resampling.BICUBIC).save(stream, "JPEG")
        made.append(stream.getvalue())
    return made


def encoder_of(name: str, folder: Path) -> Any:
    if name == "vae":
        return make_encoder("image", "vae", PLAIN | {"path": str(tiny_vae(folder))})
    if name == "torchvision":
        return make_shufflenet(folder)
    return make_encoder("image", "transformer", PLAIN | {"path": str(make_vit(folder))})


def objective(name: str, encoder: Any, **own: Any) -> Objective[Any]:
    kind = find(OBJECTIVES, "objective", name)
    torch.manual_seed(1)
    made: Objective[Any] = kind(encoder, encoder.network(), kind.Settings(**own), WIDTH)
    return made


def targets_of(contents: list[bytes]) -> np.ndarray:
    """Return vectors that a picture's mean colour decides."""
    means = np.stack([np.asarray(Image.open(io.BytesIO(data)), np.float32).mean(axis=(0, 1)) for data in contents])
    mixed = (means / 128 - 1) @ np.random.default_rng(5).standard_normal((3, WIDTH))
    return mixed.astype(np.float32)


CASES = [
    ("contrastive", "vit", {}),
    ("contrastive", "torchvision", {}),
    ("vicreg", "vit", {}),
    ("rebuilt", "vae", {}),
    ("paired", "vit", {"modality": "text"}),
    ("distilled", "vit", {"teacher": "other"}),
    ("behaviour", "vit", {"items": 16, "balance": 0.5}),
]


@pytest.mark.parametrize(("name", "kind", "own"), CASES, ids=[f"{name}-{kind}" for name, kind, _ in CASES])
def test_steps_make_the_loss_of_pictures_that_were_not_shown_smaller(
    name: str, kind: str, own: dict[str, Any], tmp_path: Path
) -> None:
    chosen = objective(name, encoder_of(kind, tmp_path), **own)
    contents = chosen.kept.prepare(pictures()).examples
    draw = np.random.default_rng(0)
    users = [draw.choice(np.arange(start, 48, 2), 6, replace=False) for start in (0, 1) * 20]
    corpus = chosen.usable(Corpus(contents, users if chosen.reads_histories else [], targets_of(contents)))
    count = chosen.examples(corpus)
    held_out = np.arange(count - 16, count)

    def judged() -> float:
        chosen.eval()
        torch.manual_seed(0)
        with torch.no_grad():
            return float(chosen(chosen.draw(corpus, held_out, np.random.default_rng(9))))

    before = judged()
    chosen.train()
    optimizer = torch.optim.AdamW(chosen.parameters(), lr=3e-3)
    for step in range(120 if name == "rebuilt" else 40):
        optimizer.zero_grad()
        torch.manual_seed(step)
        batch = chosen.draw(corpus, draw.choice(held_out[0], 16, replace=False), np.random.default_rng(step))
        chosen(batch).backward()
        optimizer.step()
    assert judged() < 0.95 * before


def test_the_same_draw_makes_the_same_views_and_no_two_of_a_picture_are_alike(tmp_path: Path) -> None:
    views = objective("contrastive", make_shufflenet(tmp_path))
    corpus = Corpus(views.kept.prepare(pictures()).examples)
    one, again, other = (views.draw(corpus, np.arange(4), np.random.default_rng(n)) for n in (1, 1, 2))
    assert all(torch.equal(*pair) for pair in zip((one[0][0], one[1][0]), (again[0][0], again[1][0]), strict=True))
    assert not torch.equal(one[0][0], one[1][0])
    assert not torch.equal(one[0][0], other[0][0])
    assert one[0][0].shape == (4, 3, 32, 32)
    state = torch.random.get_rng_state()
    views.draw(corpus, np.arange(2), np.random.default_rng(3))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_views_without_colour_or_mirror_only_cut(tmp_path: Path) -> None:
    plain = objective("contrastive", make_shufflenet(tmp_path), colour=0.0, mirror=False, smallest=1.0)
    names = [type(step).__name__ for step in plain._view.transforms]  # type: ignore[union-attr]
    assert names == ["RandomResizedCrop", "RandomApply"]


def test_the_contrastive_loss_is_its_formula(tmp_path: Path) -> None:
    chosen = objective("contrastive", encoder_of("vit", tmp_path), temperature=0.3)
    corpus = Corpus(chosen.kept.prepare(pictures()).examples)
    batch = chosen.draw(corpus, np.arange(5), np.random.default_rng(1))
    with torch.no_grad():
        z = torch.cat([chosen.projected(views) for views in batch]).double().numpy()  # type: ignore[operator]
        loss = float(chosen(batch))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    scores = np.exp(z @ z.T / 0.3)
    expected = [-np.log(scores[i, (i + 5) % 10] / (scores[i].sum() - scores[i, i])) for i in range(10)]
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_vicreg_loss_is_its_formula(tmp_path: Path) -> None:
    chosen = objective("vicreg", encoder_of("vit", tmp_path), invariance=3.0, variance=5.0, covariance=0.5, width=8)
    corpus = Corpus(chosen.kept.prepare(pictures()).examples)
    batch = chosen.draw(corpus, np.arange(6), np.random.default_rng(1))
    with torch.no_grad():
        one, two = (chosen.projected(views).double().numpy() for views in batch)  # type: ignore[operator]
        loss = float(chosen(batch))
    expected = 3.0 * np.mean((one - two) ** 2)
    for rows in (one, two):
        shared = np.cov(rows.T)
        expected += 5.0 / 2 * np.maximum(0.0, 1.0 - np.sqrt(np.diag(shared) + 1e-4)).mean()
        expected += 0.5 * (shared**2).sum() / 8 - 0.5 * (np.diag(shared) ** 2).sum() / 8
    assert loss == pytest.approx(expected, rel=1e-4)


def test_equal_partners_are_no_negatives(tmp_path: Path) -> None:
    chosen = objective("paired", encoder_of("vit", tmp_path), modality="text", width=4)
    contents = chosen.kept.prepare(pictures()).examples[:4]
    targets = targets_of(contents)
    targets[2] = targets[0]
    batch = chosen.draw(Corpus(contents, targets=targets), np.arange(4), np.random.default_rng(0))
    with torch.no_grad():
        a = chosen.own(chosen.vectors(batch.contents)).double()  # type: ignore[operator]
        b = chosen.other(batch.targets_BE).double()  # type: ignore[operator]
        loss = float(chosen(batch))
    a, b = (part / part.norm(dim=1, keepdim=True) for part in (a, b))
    scores = np.exp((a @ b.T / 0.07).numpy())
    counted = np.ones((4, 4))
    counted[0, 2] = counted[2, 0] = 0.0
    rows = [-np.log(scores[i, i] / (scores[i] * counted[i]).sum()) for i in range(4)]
    columns = [-np.log(scores[i, i] / (scores[:, i] * counted[i]).sum()) for i in range(4)]
    assert loss == pytest.approx((np.mean(rows) + np.mean(columns)) / 2, rel=1e-4)


def test_equal_partners_are_found_in_large_batches_too(tmp_path: Path) -> None:
    """Above 25 rows torch computes distances by a matrix product, whose zeros are not zero."""
    chosen = objective("paired", encoder_of("vit", tmp_path), modality="text", width=4)
    contents = chosen.kept.prepare(pictures()).examples[:40]
    alone = np.random.default_rng(0).standard_normal((20, WIDTH)).astype(np.float32)
    batch = chosen.draw(
        Corpus(contents, targets=np.concatenate([alone, alone])), np.arange(40), np.random.default_rng(0)
    )
    with torch.no_grad():
        loss = float(chosen(batch))
        a = torch.nn.functional.normalize(chosen.own(chosen.vectors(batch.contents)), dim=1)  # type: ignore[operator]
        b = torch.nn.functional.normalize(chosen.other(batch.targets_BE), dim=1)  # type: ignore[operator]
    scores = np.exp((a @ b.T / 0.07).double().numpy())
    counted = np.ones((40, 40)) - np.eye(40, k=20) - np.eye(40, k=-20)
    rows = -np.log(np.diag(scores) / (scores * counted).sum(axis=1))
    columns = -np.log(np.diag(scores) / (scores * counted).sum(axis=0))
    assert loss == pytest.approx((rows.mean() + columns.mean()) / 2, rel=1e-4)


@pytest.mark.parametrize(("name", "kind", "own"), CASES, ids=[f"{name}-{kind}" for name, kind, _ in CASES])
def test_losses_are_computed_in_float32_whatever_the_network_computes_in(
    name: str, kind: str, own: dict[str, Any], tmp_path: Path
) -> None:
    """Horovod does not know bfloat16 either: what travels between ranks must not be of it."""
    chosen = objective(name, encoder_of(kind, tmp_path), **own)
    contents = chosen.kept.prepare(pictures()).examples
    corpus = Corpus(contents, [np.arange(6), np.arange(3, 9)] if chosen.reads_histories else [], targets_of(contents))
    travelled, computed = [], set[torch.dtype]()

    def gather(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        travelled.append(rows.dtype)
        return rows, 0

    for module in chosen.network.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.register_forward_hook(lambda _, __, out: computed.add(out.dtype))
    chosen.gather = gather
    batch = chosen.draw(corpus, np.arange(2), np.random.default_rng(0))
    chosen.train()
    torch.manual_seed(0)
    exact = chosen(batch)
    chosen.autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    torch.manual_seed(0)
    half = chosen(batch)
    assert torch.bfloat16 in computed
    assert half.dtype == torch.float32
    assert set(travelled) <= {torch.float32}
    assert half.item() == pytest.approx(exact.item(), rel=0.2, abs=0.05)


def test_the_distillation_loss_is_none_for_the_teacher_itself(tmp_path: Path) -> None:
    encoder = make_encoder("text", "transformer", PLAIN | {"path": str(tiny_bert(tmp_path))})
    kind = find(OBJECTIVES, "objective", "distilled")
    chosen = kind(encoder, encoder.network(), kind.Settings(), encoder.dim)  # type: ignore[attr-defined]
    contents = chosen.kept.prepare(["red shirt", "blue pan", "the steel"]).examples
    encoder.load()
    own = encoder.encode([chosen.kept.example(data) for data in contents])
    batch = chosen.draw(Corpus(contents, targets=own), np.arange(3), np.random.default_rng(0))
    assert float(chosen(batch)) == pytest.approx(0.0, abs=1e-5)
    turned = chosen.draw(Corpus(contents, targets=-own), np.arange(3), np.random.default_rng(0))
    assert float(chosen(turned)) == pytest.approx(2.0, abs=1e-5)  # all cosines to it are -1, those between stay
    shorter = chosen.draw(Corpus(contents, targets=own[:, :3]), np.arange(3), np.random.default_rng(0))
    small = own[:, :3] / np.linalg.norm(own[:, :3], axis=1, keepdims=True)
    whole = own / np.linalg.norm(own, axis=1, keepdims=True)
    expected = np.square(whole @ whole.T - small @ small.T).mean()
    assert float(chosen(shorter)) == pytest.approx(expected, rel=1e-4)


def test_what_many_took_weighs_less(tmp_path: Path) -> None:
    histories = [np.array([0, n]) for n in range(1, 9)]
    contents = [np.array([2, 5 + n % 9, 3], np.int32).tobytes() for n in range(9)]
    encoder = make_encoder("text", "transformer", PLAIN | {"path": str(tiny_bert(tmp_path))})
    for balance, ratio in ((0.0, 1.0), (0.5, 8**0.5), (1.0, 8.0)):
        batch = objective("behaviour", encoder, items=9, balance=balance).draw(
            Corpus(contents, histories), np.arange(8), np.random.default_rng(0)
        )
        weights = sorted(batch.weights_N.tolist())
        assert weights[-1] / weights[0] == pytest.approx(ratio, rel=1e-5)
        assert np.mean(weights) == pytest.approx(1.0)


def test_batch_norms_of_a_network_that_learns_stay_as_they_were(tmp_path: Path) -> None:
    chosen = objective("contrastive", make_shufflenet(tmp_path))
    before = {name: value.clone() for name, value in chosen.network.named_buffers()}
    chosen.train()
    corpus = Corpus(chosen.kept.prepare(pictures()).examples)
    chosen(chosen.draw(corpus, np.arange(4), np.random.default_rng(0))).backward()
    assert before
    for name, value in chosen.network.named_buffers():
        assert torch.equal(value, before[name]), name
    assert any(weight.grad is not None and weight.grad.any() for weight in chosen.network.parameters())
