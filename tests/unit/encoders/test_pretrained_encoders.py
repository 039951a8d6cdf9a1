"""Encoders with weights, against the raw models and a layout written by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from crossweave.encoders import make_encoder
from crossweave.encoders.base import Encoder
from crossweave.encoders.batching import encode_values
from crossweave.encoders.torchvision_compat import import_torchvision
from crossweave.errors import SettingsError

SHARED = Path(__file__).resolve().parents[4] / "shared" / "weights"
needs_weights = pytest.mark.skipif(not SHARED.is_dir(), reason="the measuring weights (../shared/weights) are not here")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "shirt", "pan", ","]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import_torchvision()
    import transformers

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **sizes)
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab={word: at for at, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import_torchvision()
    import tokenizers
    import transformers

    folder = tmp_path_factory.mktemp("gpt")
    torch.manual_seed(0)
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<eos>": 0, "red": 1, "pan": 2, "<unk>": 3}, "<unk>"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", unk_token="<unk>").save_pretrained(
        folder
    )
    config = transformers.GPT2Config(vocab_size=4, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    transformers.GPT2Model(config).save_pretrained(folder)
    return folder


def loaded(kind: str, name: str, **settings: Any) -> Encoder:
    made = make_encoder(kind, name, settings)
    made.load()
    return made


def states_of(folder: Path, ids: list[int]) -> np.ndarray:
    import transformers

    model = transformers.AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
    with torch.no_grad():
        return np.asarray(model(torch.tensor([ids])).last_hidden_state[0])


@pytest.mark.parametrize(
    ("pooling", "pick"), [("mean", lambda s: s.mean(0)), ("cls", lambda s: s[0]), ("last", lambda s: s[-1])]
)
def test_bert_pooling_equals_the_raw_model_beside_a_longer_text(bert: Path, pooling: str, pick: Any) -> None:
    encoder = loaded("text", "transformer", path=str(bert), pooling=pooling)
    vectors = encode_values(encoder, ["red shirt", "blue pan red shirt blue"])[0]
    np.testing.assert_allclose(vectors[0], pick(states_of(bert, [2, 5, 7, 3])), atol=1e-5)
    np.testing.assert_allclose(vectors[1], pick(states_of(bert, [2, 6, 8, 5, 7, 6, 3])), atol=1e-5)


def test_a_gpt_without_a_padding_token_takes_its_last_token(gpt: Path) -> None:
    encoder = loaded("text", "transformer", path=str(gpt))
    vectors = encode_values(encoder, ["red pan", "red pan red red pan"])[0]
    np.testing.assert_allclose(vectors[0], states_of(gpt, [1, 2])[-1], atol=1e-5)
    np.testing.assert_allclose(vectors[1], states_of(gpt, [1, 2, 1, 1, 2])[-1], atol=1e-5)


def test_tags_are_joined_by_commas_and_long_texts_are_cut(bert: Path) -> None:
    text = loaded("text", "transformer", path=str(bert), max_tokens=5)
    tags = loaded("tags", "transformer", path=str(bert))
    np.testing.assert_array_equal(
        encode_values(tags, [["red", "pan"]])[0],
        encode_values(loaded("text", "transformer", path=str(bert)), ["red, pan"])[0],
    )
    assert text.prepare(["red " * 40]).examples[0].tolist() == [2, 5, 5, 5, 3]
    with pytest.raises(SettingsError, match="at most 16"):
        make_encoder("text", "transformer", {"path": str(bert), "max_tokens": 17}).prepare(["red"])


def test_the_sentence_transformers_layout_is_honoured(bert: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(bert, tmp_path / "st"))
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 4}))
    encoder = loaded("text", "transformer", path=str(folder))
    expected = states_of(bert, [2, 5, 7, 3])[0]
    vector = encode_values(encoder, ["red shirt pan pan"])[0][0]
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)
    raw = encode_values(loaded("text", "transformer", path=str(folder), normalize=False), ["red shirt"])[0][0]
    np.testing.assert_allclose(raw, expected, atol=1e-5)
    before = encoder.fingerprint
    pooling.write_text(json.dumps({"pooling_mode": "lasttoken"}))  # the later spelling
    assert make_encoder("text", "transformer", {"path": str(folder)}).fingerprint != before
    pooling.write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(SettingsError, match="pooling_mode_max_tokens"):
        _ = make_encoder("text", "transformer", {"path": str(folder)}).dim


def test_incomplete_or_pickled_directories_are_refused_in_plain_words(bert: Path, tmp_path: Path) -> None:
    import shutil

    for lost, words in (("config.json", "config.json"), ("tokenizer.json", "no tokenizer")):
        folder = Path(shutil.copytree(bert, tmp_path / lost))
        (folder / lost).unlink()
        with pytest.raises(SettingsError, match=words):
            make_encoder("text", "transformer", {"path": str(folder)}).load()
    folder = Path(shutil.copytree(bert, tmp_path / "pickled"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SettingsError, match="pickled"):
        make_encoder("text", "transformer", {"path": str(folder)}).load()
    (folder / "model.safetensors").write_bytes((folder / "pytorch_model.bin").read_bytes()[:-100])
    with pytest.raises(SettingsError, match="not a whole safetensors file"):
        make_encoder("text", "transformer", {"path": str(folder)}).load()


def noise(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    torch.manual_seed(0)
    model = import_torchvision().models.mobilenet_v2().eval()
    path = tmp_path_factory.mktemp("mobilenet") / "weights.safetensors"
    save_file(model.state_dict(), path)
    return model, path


@pytest.mark.parametrize("same_padding", [False, True])
def test_features_equal_the_raw_model_before_its_classifier(mobilenet: tuple[Any, Path], same_padding: bool) -> None:
    model, path = mobilenet
    settings = {
        "model": "mobilenet_v2",
        "weights": str(path),
        "resize": 64,
        "crop": 64,
        "tf_same_padding": same_padding,
    }
    encoder = loaded("image", "torchvision", **settings, mean=[0.5] * 3, std=[0.5] * 3)
    found = encode_values(encoder, [noise(64, 64)])[0][0]
    pixels = np.asarray(Image.open(io.BytesIO(noise(64, 64)))).transpose(2, 0, 1)
    inputs = torch.from_numpy(pixels / 127.5 - 1).float()[None]
    body = import_torchvision().models.mobilenet_v2().eval()
    body.load_state_dict(model.state_dict())
    if same_padding:  # as the README of the weights says
        for module in body.modules():
            if isinstance(module, torch.nn.Conv2d) and module.stride == (2, 2):
                module.padding = (0, 0)
                module.register_forward_pre_hook(lambda _, a: (torch.nn.functional.pad(a[0], (0, 1, 0, 1)),))
    with torch.no_grad():
        expected = body.features(inputs).mean(dim=(2, 3))[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_named_layer_is_averaged_and_a_wrong_name_is_refused(mobilenet: tuple[Any, Path]) -> None:
    model, path = mobilenet
    settings = {
        "model": "mobilenet_v2",
        "weights": str(path),
        "resize": 64,
        "crop": 64,
        "mean": [0] * 3,
        "std": [1] * 3,
    }
    encoder = loaded("image", "torchvision", **settings, layer="features.3")
    found = encode_values(encoder, [noise(64, 64)])[0][0]
    pixels = np.asarray(Image.open(io.BytesIO(noise(64, 64)))).transpose(2, 0, 1)
    with torch.no_grad():
        expected = model.features[:4](torch.from_numpy(pixels / 255).float()[None]).mean(dim=(2, 3))[0].numpy()
    assert encoder.dim == len(expected) == 24
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for wrong, words in (({"layer": "features.99"}, "no layer"), ({"model": "mobilnet_v2"}, "no classification model")):
        with pytest.raises(SettingsError, match=words) as caught:
            _ = make_encoder("image", "torchvision", {**settings, **wrong}).dim
        assert "features.9" in caught.value.hint or "mobilenet_v2" in caught.value.hint
    with pytest.raises(SettingsError, match="do not fit"):
        make_encoder("image", "torchvision", {**settings, "model": "resnet18"}).load()
    with pytest.raises(SettingsError, match=r"there is no file 'weights\.pth'"):
        make_encoder("image", "torchvision", {**settings, "weights": "weights.pth"}).load()


def test_a_pth_file_gives_the_same_vectors_and_one_with_code_is_never_run(
    mobilenet: tuple[Any, Path], tmp_path: Path
) -> None:
    model, path = mobilenet
    settings = {"model": "mobilenet_v2", "resize": 64, "crop": 64}
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    one = loaded("image", "torchvision", **settings, weights=str(path))
    other = loaded("image", "torchvision", **settings, weights=str(tmp_path / "weights.pth"))
    np.testing.assert_array_equal(encode_values(one, [noise(64, 64)])[0], encode_values(other, [noise(64, 64)])[0])
    marker = tmp_path / "ran"
    torch.save({"a": Poison(str(marker))}, tmp_path / "poison.pth")
    with pytest.raises(SettingsError, match="cannot be read as tensors alone"):
        make_encoder("image", "torchvision", {**settings, "weights": str(tmp_path / "poison.pth")}).load()
    assert not marker.exists()
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(SettingsError, match="does not hold a state_dict"):
        make_encoder("image", "torchvision", {**settings, "weights": str(tmp_path / "list.pth")}).load()


class Poison:
    """Its pickle creates a file when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.path),))


def test_weights_by_torchvision_s_name_are_found_in_the_hub_s_folder_and_never_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    settings = {"model": "resnet18", "weights": "ResNet18_Weights.IMAGENET1K_V1", "resize": 64, "crop": 64}
    with pytest.raises(SettingsError, match="there is no file") as caught:
        _ = make_encoder("image", "torchvision", settings).fingerprint
    assert "https://download.pytorch.org/models/resnet18" in caught.value.hint
    name = caught.value.hint.partition("fetch ")[2].partition(" once")[0].rpartition("/")[2]
    (tmp_path / "checkpoints").mkdir()
    torch.save(import_torchvision().models.resnet18().state_dict(), tmp_path / "checkpoints" / name)
    assert encode_values(loaded("image", "torchvision", **settings), [noise(64, 64)])[0].shape == (1, 512)
    with pytest.raises(SettingsError, match="torchvision has no weights"):
        make_encoder("image", "torchvision", {**settings, "weights": "ResNet18_Weights.IMAGENET21K"}).load()


def test_weights_by_name_bring_their_own_preprocessing_and_settings_win() -> None:
    named = {"model": "vit_b_16", "weights": "ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1"}
    made = make_encoder("image", "torchvision", named).settings.model_dump()
    assert [made[key] for key in ("resize", "crop", "interpolation")] == [384, 384, "bicubic"]
    v2 = {"model": "resnet50", "weights": "ResNet50_Weights.IMAGENET1K_V2"}
    assert make_encoder("image", "torchvision", v2).settings.model_dump()["resize"] == 232
    assert make_encoder("image", "torchvision", {**v2, "resize": 300}).settings.model_dump()["resize"] == 300


@pytest.mark.parametrize(
    ("model", "width", "side"),
    [
        ("resnet50", 2048, 64),
        ("vgg11", 4096, 224),
        ("vit_b_32", 768, 224),
        ("mobilenet_v3_small", 1024, 64),
        ("convnext_tiny", 768, 64),
        ("efficientnet_b0", 1280, 64),
    ],
)
def test_every_family_of_torchvision_gives_its_features(model: str, width: int, side: int, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    settings = {"model": model, "weights": str(tmp_path / "w.safetensors"), "resize": side, "crop": side}
    assert make_encoder("image", "torchvision", settings).dim == width
    if model == "vgg11":  # 0.5 GB of weights: its shape is enough
        return
    save_file(import_torchvision().models.get_model(model).state_dict(), tmp_path / "w.safetensors")
    encoder = loaded("image", "torchvision", **settings)
    assert encode_values(encoder, [noise(80, 70)])[0].shape == (1, width)


def test_one_resampling_equals_resizing_the_shorter_side_and_cutting_the_centre(mobilenet: tuple[Any, Path]) -> None:
    settings = {"model": "mobilenet_v2", "weights": str(mobilenet[1]), "resize": 64, "crop": 32}
    (crop,) = make_encoder("image", "torchvision", settings).prepare([noise(256, 128)]).examples
    resized = Image.open(io.BytesIO(noise(256, 128))).resize((128, 64), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((48, 16, 80, 48))).transpose(2, 0, 1)
    assert crop.dtype == np.uint8
    np.testing.assert_allclose(crop.astype(int), expected.astype(int), atol=1)


@needs_weights
def test_minilm_in_half_precision_on_disk_gives_the_known_geometry() -> None:
    encoder = loaded("text", "transformer", path=str(SHARED / "all-MiniLM-L6-v2"))
    vectors = encode_values(encoder, ["A red cotton shirt", "crimson tee", "frying pan"])[0]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert encoder.dim == 384
    assert float(vectors[0] @ vectors[1]) == pytest.approx(0.376, abs=0.01)
    assert abs(float(vectors[0] @ vectors[2])) < 0.1
    assert next(encoder._model.parameters()).dtype == torch.float32  # type: ignore[attr-defined]


@needs_weights
def test_the_imagenet_weights_fit_mobilenet() -> None:
    path = SHARED / "mobilenet_v2_imagenet.safetensors"
    half = {"mean": [0.5] * 3, "std": [0.5] * 3, "tf_same_padding": True}
    encoder = loaded("image", "torchvision", model="mobilenet_v2", weights=str(path), **half)
    vectors = encode_values(encoder, [noise(300, 250)])[0]
    assert vectors.shape == (1, 1280)
    assert vectors.min() >= 0  # the last activation is a ReLU6
    assert 0 < vectors.max() <= 6
