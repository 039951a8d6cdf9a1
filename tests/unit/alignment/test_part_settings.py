"""Every part's settings are judged by its own signature, and named by their path."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossweave.alignment import COLLABORATIVE, FUSIONS, HEADS, LOSSES, USER_TOWERS
from crossweave.alignment.part_settings import check_parts
from crossweave.config import load_settings
from crossweave.errors import SettingsError
from crossweave.scoring.reranks import RERANKS, build_reranks

LOCAL = Path(__file__).resolve().parents[3] / "conf" / "local.yaml"


def check(*pairs: str) -> None:
    settings = load_settings([LOCAL], pairs)
    check_parts(settings.model, list(settings.modalities))
    build_reranks(settings.score.rerank or {})


def refusal(*pairs: str) -> tuple[str, str]:
    with pytest.raises(SettingsError) as caught:
        check(*pairs)
    return caught.value.message, caught.value.hint


def places() -> list[tuple[tuple[str, ...], str]]:
    """Return for every part the pairs that choose it, and the path of its settings."""
    found = [((f"model.fusion={name}",), "model.fusion_settings") for name in FUSIONS]
    found += [((f"model.user_tower={name}",), "model.user_tower_settings") for name in USER_TOWERS]
    found += [((f"model.head={name}",), "model.head_settings") for name in HEADS]
    found += [((f"model.losses.{name}=1",), f"model.loss_settings.{name}") for name in LOSSES]
    found += [((), f"model.collaborative.{name}") for name in COLLABORATIVE]
    found += [((), f"score.rerank.{name}") for name in RERANKS]
    return [*found, ((), "model.content_map")]


@pytest.mark.parametrize(("chosen", "path"), places(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_part_is_taken_as_it_is_and_an_unknown_setting_of_it_is_named(chosen: tuple[str, ...], path: str) -> None:
    check(*chosen)
    message, hint = refusal(*chosen, f"{path}.zzz=1")
    assert message == f"unknown setting {path}.zzz"
    assert hint.startswith("settings there: ")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (("model.fusion=transformer", "model.fusion_settings.headz=4"), "fusion_settings.headz (did you mean heads"),
        (("model.fusion=transformer", "model.fusion_settings.heads=3"), "dim 64 must be a multiple of heads 3"),
        (("model.fusion=transformer", "model.fusion_settings.heads=true"), "model.fusion_settings.heads: Input"),
        (("model.fusion=transformer", "model.fusion_settings.dropout=1.0"), "model.fusion_settings.dropout: Input"),
        (("model.user_tower=gru", "model.user_tower_settings.limit=0"), "model.user_tower_settings.limit"),
        (("model.head=mlp", "model.head_settings.hidden=5"), "model.head_settings.hidden: Input should be"),
        (("model.head=mlp", "model.head_settings.hidden=[0]"), "model.head_settings.hidden.0"),
        (("model.head=cosine", "model.head_settings.temperature=-1"), "model.head_settings.temperature"),
        (("model.loss_settings.infonce.temperature=0",), "model.loss_settings.infonce.temperature"),
        (("model.losses.mmd=1", "model.loss_settings.mmd.widths=[]"), "model.loss_settings.mmd.widths"),
        (("model.losses.sampled_softmax=0", "model.losses.infonce=0"), "model.losses: expected a loss"),
        (("model.collaborative.edlae.l2=-1",), "model.collaborative.edlae.l2"),
        (("model.collaborative.edlae.l2=x",), "model.collaborative.edlae.l2"),
        (("model.collaborative.als.rank=1.5",), "model.collaborative.als.rank"),
        (("model.content_map.sharpness=0",), "model.content_map.sharpness"),
        (("model.content_map.shares={txt: 1}",), "model.content_map.shares.txt names no modality (did you mean text?)"),
        (("score.rerank.mmr.relevance=2",), "score.rerank.mmr.relevance"),
        (("score.rerank.popularity.weight=-1",), "score.rerank.popularity.weight"),
    ],
)  # fmt: skip
def test_a_setting_that_a_part_cannot_take_is_named_by_its_path(pairs: tuple[str, ...], message: str) -> None:
    assert message in refusal(*pairs)[0]


def test_the_encoder_s_settings_are_named_by_their_path() -> None:
    from crossweave.stages.embed import EMBED

    with pytest.raises(SettingsError, match=r"encoders\.words\.dimm"):
        EMBED.check(load_settings([LOCAL], ["encoders.words.dimm=3"]))
