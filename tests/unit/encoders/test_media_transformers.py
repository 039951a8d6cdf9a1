"""Picture and sound transformers against transformers' own processors and classes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media_models import HALF, make_ast, make_dinov2, make_hubert, make_siglip, make_vit, save_preprocessor
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import picture, tiny_clip, tone

from crossweave.encoders import make_encoder
from crossweave.encoders.batching import encode_values
from crossweave.encoders.huggingface import import_transformers
from crossweave.encoders.media import decode_audio
from crossweave.errors import SettingsError

CASES = [
    (tiny_clip, "CLIPModel", lambda out: out.image_embeds, 24),
    (make_siglip, "SiglipModel", lambda out: out.vision_model_output.pooler_output, 32),
    (make_vit, "ViTModel", lambda out: out.last_hidden_state[:, 0], 32),
    (make_dinov2, "Dinov2Model", lambda out: out.last_hidden_state[:, 0], 32),
]


@pytest.mark.parametrize(("make", "class_name", "pooled", "width"), CASES, ids=["clip", "siglip", "vit", "dinov2"])
def test_a_vector_equals_the_raw_model_on_pixels_prepared_by_hand(
    make: Any, class_name: str, pooled: Any, width: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    folder = make(tmp_path / "model")
    encoder = make_encoder("image", "transformer", {"path": str(folder)})
    encoder.load()
    data = picture("red", (48, 48), "PNG")
    vectors, _, failures = encode_values(encoder, [data])
    assert failures == []
    assert vectors.shape == (1, width)
    facts = json.loads((folder / "preprocessor_config.json").read_text())
    size = facts["size"]
    edge = size if isinstance(size, int) else size.get("shortest_edge", size.get("height"))
    small = Image.open(io.BytesIO(data)).convert("RGB").resize((edge, edge), facts["resample"])
    crop = facts.get("crop_size", {"height": edge})["height"]
    left = (edge - crop) // 2
    pixels = np.asarray(small.crop((left, left, left + crop, left + crop)), dtype=np.float32) / 255
    pixels = (pixels - facts["image_mean"]) / facts["image_std"]
    inputs = {"pixel_values": torch.tensor(pixels.transpose(2, 0, 1)[None], dtype=torch.float32)}
    raw = getattr(import_transformers(), class_name).from_pretrained(folder).eval()
    if class_name in ("CLIPModel", "SiglipModel"):
        inputs["input_ids"] = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        output = pooled(raw(**inputs))
    cosine = torch.nn.functional.cosine_similarity(output, torch.from_numpy(vectors))
    assert float(cosine) > 0.9999


def test_preprocessing_equals_the_library_s_own_for_a_picture_that_is_no_square(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "clip")
    encoder = make_encoder("image", "transformer", {"path": str(folder)})
    transformers = import_transformers()
    processor_class = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    processor = processor_class.from_pretrained(folder)
    for size in ((90, 50), (50, 91), (33, 32)):
        data = picture("green", size, "PNG")
        wanted = processor(Image.open(io.BytesIO(data)).convert("RGB"), return_tensors="np")["pixel_values"][0]
        ours = encoder.prepare([data]).examples[0].astype(np.float32) / 255
        ours = (ours - np.reshape([0.48, 0.46, 0.41], (3, 1, 1))) / np.reshape([0.27, 0.26, 0.28], (3, 1, 1))
        assert np.abs(ours - wanted).mean() < 0.01


def test_only_the_picture_side_of_clip_is_loaded(tmp_path: Path) -> None:
    encoder = make_encoder("image", "transformer", {"path": str(tiny_clip(tmp_path / "clip"))})
    encoder.load()
    assert not [name for name, _ in encoder._model.named_parameters() if "text" in name]  # type: ignore[attr-defined]


def test_missing_weights_are_refused_and_not_made_up(tmp_path: Path) -> None:
    folder = make_vit(tmp_path / "vit")
    state = load_file(folder / "model.safetensors")
    name = next(name for name in state if "layernorm" in name and "weight" in name)
    del state[name]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    encoder = make_encoder("image", "transformer", {"path": str(folder)})
    with pytest.raises(SettingsError, match="lack layers"):
        encoder.load()


def test_models_and_preprocessors_that_do_not_fit_are_refused_in_plain_words(tmp_path: Path) -> None:
    folder = make_vit(tmp_path / "vit")
    save_preprocessor(folder, size={"shortest_edge": 32}, **HALF)
    with pytest.raises(SettingsError, match="sizes would differ"):
        _ = make_encoder("image", "transformer", {"path": str(folder)}).fingerprint
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(SettingsError, match="'bert' is not supported"):
        _ = make_encoder("image", "transformer", {"path": str(folder)}).dim


@pytest.mark.parametrize(
    ("make", "pooling"),
    [(tiny_clip, "pooler"), (make_siglip, "cls"), (make_siglip, "projection"), (make_vit, "projection")],
)
def test_a_pooling_that_the_model_does_not_have_is_refused_before_any_picture(
    make: Any, pooling: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=f"not {pooling}"):
        _ = make_encoder("image", "transformer", {"path": str(make(tmp_path / "m")), "pooling": pooling}).fingerprint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_mean": None}, "cannot be used"),
        ({"image_mean": [0.5]}, "three numbers"),
        ({"image_std": [0, 1, 1]}, "above zero"),
        ({"crop_size": {}}, "cannot be used"),
        ({"crop_size": 24}, "sees 32 x 32"),
        ({"resample": 99}, "cannot be used"),
        ({"do_resize": False, "do_center_crop": False}, "neither resizes nor crops"),
    ],
)
def test_a_preprocessor_that_does_not_fit_is_refused_before_any_picture(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = tiny_clip(tmp_path / "clip")
    save_preprocessor(folder, **(json.loads((folder / "preprocessor_config.json").read_text()) | change))
    with pytest.raises(SettingsError, match=words):
        _ = make_encoder("image", "transformer", {"path": str(folder)}).fingerprint


def test_hubert_equals_the_raw_model_at_its_own_rate(tmp_path: Path) -> None:
    folder = make_hubert(tmp_path / "hubert")
    encoder = make_encoder("audio", "transformer", {"path": str(folder)})
    encoder.load()
    data = tone(440)
    wave = torch.from_numpy(decode_audio(data, 8_000, 30.0))[None]
    raw = import_transformers().HubertModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        wanted = raw(wave).last_hidden_state.mean(dim=1).numpy()
    np.testing.assert_allclose(encode_values(encoder, [data])[0], wanted, rtol=1e-4, atol=1e-5)


def test_ast_equals_the_library_s_extractor_and_model(tmp_path: Path) -> None:
    folder = make_ast(tmp_path / "ast")
    encoder = make_encoder("audio", "transformer", {"path": str(folder)})
    encoder.load()
    clips = [tone(440), tone(900, 1.0)]
    waves = [decode_audio(clip, 16_000, 30.0) for clip in clips]
    transformers = import_transformers()
    extractor = transformers.ASTFeatureExtractor.from_pretrained(folder)
    raw = transformers.ASTModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        wanted = raw(**extractor(waves, sampling_rate=16_000, return_tensors="pt")).pooler_output.numpy()
    np.testing.assert_allclose(encode_values(encoder, clips)[0], wanted, rtol=1e-4, atol=1e-5)


def test_an_extractor_that_does_not_fit_its_model_is_refused_before_any_sound(tmp_path: Path) -> None:
    folder = make_ast(tmp_path / "ast")
    facts = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    (folder / "preprocessor_config.json").write_text(json.dumps(facts | {"num_mel_bins": 64}), encoding="utf-8")
    with pytest.raises(SettingsError, match="makes num_mel_bins 64, the model takes 32"):
        _ = make_encoder("audio", "transformer", {"path": str(folder)}).identity


def test_a_picture_model_is_refused_for_sounds(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'vit' is not supported"):
        _ = make_encoder("audio", "transformer", {"path": str(make_vit(tmp_path / "vit"))}).fingerprint


def test_a_rhythm_and_a_steady_noise_differ_where_the_rhythm_is_described() -> None:
    encoder = make_encoder("audio", "spectrogram", {})
    encoder.load()
    time = np.arange(32_000) / 16_000
    steady = 0.3 * np.random.default_rng(0).standard_normal(len(time))
    pulsing = steady * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * time))  # three times a second
    rows = encoder.encode([steady.astype(np.float32), pulsing.astype(np.float32)])
    rhythm = rows[:, 5 * 64 :].reshape(2, 4, 5)
    assert rhythm[1, :, 2].min() > 0.5  # 2 to 4 Hz
    assert rhythm[0, :, 2].max() < 0.5
