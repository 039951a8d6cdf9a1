"""One suite over every encoder: what any entry of ENCODERS promises, on values and weights made on the spot."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import (
    array_file,
    picture,
    tiny_bert,
    tiny_clip,
    tiny_vae,
    tiny_wav2vec2,
    tone,
    tune,
    video,
    word_file,
)

from crossweave.encoders import ENCODERS, make_encoder
from crossweave.encoders.base import Encoder
from crossweave.encoders.batching import encode_values
from crossweave.encoders.torchvision_compat import import_torchvision
from crossweave.errors import SettingsError


@dataclass
class Case:
    """Good values, values that must become failures, and settings: one that changes vectors, the weights' place."""

    good: list[Any]
    bad: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    other: dict[str, Any] = field(default_factory=dict)
    weights_key: str | None = None
    nested: bool = False  # it wraps another encoder, whose fingerprint stands for its weights


TEXTS = ["red cotton shirt", "the steel pan", "blue", "red shirt, blue shirt, the red pan the steel pan the red shirt"]
TAGS = [["red", "blue"], ["steel pan"], ["cotton", "shirt", "red", "the"]]
BAD_TEXTS = {"empty": "  \n", "too_long": "s " * 600, "wrong_type": 7}
BAD_TAGS: dict[str, Any] = {"empty": ["", " "], "too_long": ["s" * 700, "s" * 700], "wrong_type": "red"}
PICTURES = [picture("red"), picture("blue", form="PNG"), picture("green", (200, 300)), picture("white", form="WEBP")]
BAD_PICTURES = {
    "empty": b"",
    "truncated": picture("red", (200, 200))[:-300],
    "undecodable": b"no picture at all, only words",
    "wrong_format": picture("red", form="GIF"),
    "too_many_pixels": picture("red", (500, 500), "PNG"),
}
TONES = [tone(440), tone(1500, form="FLAC"), tone(800, rate=22_050), tone(500, 1.5)]
BAD_TONES = {
    "empty": b"",
    "truncated": tone(440)[:-2000],
    "undecodable": b"no sound at all, only words",
    "silent": tone(0),
    "too_long": tone(440, 4.0),
    "too_short": tone(440, 0.002),
}


VIDEOS = [video("red"), video("blue", form="matroska"), video("green", (64, 48), tone_hertz=900.0)]
BAD_VIDEOS = {
    "empty": b"",
    "wrong_format": picture("red"),
    "truncated": video("red")[:-600],
    "too_many_pixels": video("red", (400, 400)),
    "too_long": video("red", seconds=4.0),
}
BAD_TRACKS = {
    "empty": b"",
    "wrong_format": tone(440),
    "truncated": video("red")[:-600],
    "no_sound": video("red", tone_hertz=None),
    "silent": video("red", tone_hertz=0.0),
    "too_long": video("red", seconds=4.0),
}
TUNES = [tune([60, 62, 64]), tune([60, 60, 67], program=40), tune([72, 71], beats=2.0, tempo=300_000)]
BAD_TUNES = {
    "empty": b"",
    "wrong_format": tone(440),
    "truncated": tune([60, 62, 64])[:-12],
    "too_long": tune([60] * 400),
    "no_notes": tune([]),
}
ROWS = [
    '{"price": 3.5, "brand": "a", "day": "2020-01-02"}',
    '{"price": 9, "brand": "b"}',
    '{"brand": "a", "day": "1999-05-06T10:00:00Z"}',
]
BAD_ROWS = {
    "undecodable": "{price",
    "wrong_type": '{"price": "cheap"}',
    "non_finite": '{"price": NaN}',
    "too_long": '{"brand": "' + "b" * 2000 + '"}',
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("weights")
    torch.manual_seed(2)
    save_file(import_torchvision().models.resnet18().state_dict(), root / "resnet18.safetensors")
    return {
        "bert": tiny_bert(root / "bert"),
        "clip": tiny_clip(root / "clip"),
        "wav2vec2": tiny_wav2vec2(root / "wav2vec2"),
        "resnet": root / "resnet18.safetensors",
        "vae": tiny_vae(root / "vae"),
        "words": word_file(root / "words.txt"),
        "array": array_file(root / "features.npy"),
    }


@pytest.fixture(params=sorted(ENCODERS), ids="-".join)
def entry(request: pytest.FixtureRequest) -> tuple[str, str]:
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
def case(entry: tuple[str, str], weights: dict[str, Path]) -> Case:
    bert = {"path": str(weights["bert"]), "max_chars": 1000}
    resnet = {"model": "resnet18", "weights": str(weights["resnet"]), "resize": 40, "crop": 32, "max_pixels": 100_000}
    words = {"path": str(weights["words"]), "max_chars": 1000}
    table = {
        "columns": {
            "price": {"as": "number"},
            "brand": {"as": "category", "size": 3},
            "day": {"as": "date", "scale": "bins", "bins": 2},
        },
        "max_chars": 1000,
    }
    cases: dict[tuple[str, str], Callable[[], Case]] = {
        ("text", "hashing"): lambda: Case(TEXTS, BAD_TEXTS, {"max_chars": 1000}, {"dim": 64}),
        ("tags", "hashing"): lambda: Case(TAGS, BAD_TAGS, {"max_chars": 1000}, {"dim": 64}),
        ("text", "transformer"): lambda: Case(TEXTS, BAD_TEXTS, bert, {"pooling": "cls"}, "path"),
        ("tags", "transformer"): lambda: Case(TAGS, BAD_TAGS, bert, {"normalize": True}, "path"),
        ("image", "descriptor"): lambda: Case(
            PICTURES,
            BAD_PICTURES,
            {"max_pixels": 100_000},  # its size and steps are fixed
        ),
        ("image", "torchvision"): lambda: Case(PICTURES, BAD_PICTURES, resnet, {"mean": [0.5, 0.5, 0.5]}, "weights"),
        ("image", "transformer"): lambda: Case(
            PICTURES,
            BAD_PICTURES,
            {"path": str(weights["clip"]), "max_pixels": 100_000},
            {"pooling": "mean"},
            "path",
        ),
        ("audio", "spectrogram"): lambda: Case(TONES, BAD_TONES, {"refuse_seconds": 2.0}, {"mel_bands": 32}),
        ("audio", "transformer"): lambda: Case(
            TONES, BAD_TONES, {"path": str(weights["wav2vec2"]), "refuse_seconds": 2.0}, {"normalize": True}, "path"
        ),
        ("audio", "mfcc"): lambda: Case(TONES, BAD_TONES, {"refuse_seconds": 2.0}, {"coefficients": 13}),
        ("text", "word2vec"): lambda: Case(TEXTS, {**BAD_TEXTS, "no_known_word": "zebra"}, words, {"sif": 0.0}, "path"),
        ("tags", "word2vec"): lambda: Case(TAGS, {**BAD_TAGS, "no_known_word": ["zebra"]}, words, {"sif": 0.0}, "path"),
        ("tags", "tfidf"): lambda: Case(TAGS, BAD_TAGS, {"max_chars": 1000, "max_tags": 5}, {"max_tags": 4}),
        ("attributes", "tabular"): lambda: Case(ROWS, BAD_ROWS, table, {"columns": {"price": {"as": "number"}}}),
        ("image", "vae"): lambda: Case(
            PICTURES, BAD_PICTURES, {"path": str(weights["vae"]), "max_pixels": 100_000}, weights_key="path"
        ),
        ("audio", "midi"): lambda: Case(TUNES, BAD_TUNES, {"max_events": 300}),
        ("video", "frames"): lambda: Case(
            VIDEOS,
            BAD_VIDEOS,
            {"encoder": {"type": "descriptor"}, "frames": 3, "max_pixels": 100_000, "refuse_seconds": 2.0},
            {"pool": "both"},
            nested=True,
        ),
        ("video", "soundtrack"): lambda: Case(
            VIDEOS,
            BAD_TRACKS,
            {"encoder": {"type": "mfcc"}, "refuse_seconds": 2.0},
            {"encoder": {"type": "mfcc", "coefficients": 13}},
            nested=True,
        ),
        ("vector_id", "file"): lambda: Case(
            ["0", "2", "1"],
            {"no_vector": "7", "non_finite": "3", "wrong_type": 2},
            {"path": str(weights["array"])},
            weights_key="path",
        ),
        ("vector", "column"): lambda: Case(
            [[1.0, 2.0, 3.0], np.array([0.5, -1, 4], dtype=np.float64), [0, 0, 0]],
            {
                "wrong_dim": [1.0, 2.0],
                "non_finite": [1.0, float("nan"), 2.0],
                "wrong_type": ["a", "b", "c"],
            },
            {"dim": 3},
            {"dim": 4},
        ),
    }
    return cases[entry]()


def made_for(entry: tuple[str, str], case: Case, **changes: Any) -> Encoder:
    """The encoder of an entry, fitted where it learns."""
    made = make_encoder(*entry, {**case.settings, **changes})
    if made.learns:
        made.fit([*case.good, *case.bad.values()])
    return made


@pytest.fixture
def encoder(entry: tuple[str, str], case: Case) -> Encoder:
    made = made_for(entry, case)
    made.load()
    return made


def test_every_good_value_gets_a_finite_float32_row_in_order(encoder: Encoder, case: Case) -> None:
    vectors, positions, failures = encode_values(encoder, case.good)
    assert vectors.shape == (len(case.good), encoder.dim)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert positions == list(range(len(case.good)))
    assert failures == []
    distances = np.abs(vectors[:, None] - vectors[None]).max(axis=2)
    assert (distances[~np.eye(len(vectors), dtype=bool)] > 1e-6).all()  # other values, other vectors


def test_a_new_encoder_gives_the_same_bytes(entry: tuple[str, str], case: Case, encoder: Encoder) -> None:
    again = made_for(entry, case)
    again.load()
    assert encode_values(encoder, case.good)[0].tobytes() == encode_values(again, case.good)[0].tobytes()


def test_a_batch_equals_one_by_one(encoder: Encoder, case: Case) -> None:
    together, _, _ = encode_values(encoder, case.good)
    alone = np.concatenate([encode_values(encoder, [value])[0] for value in case.good])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_bad_values_fail_by_reason_and_leave_their_neighbours_alone(encoder: Encoder, case: Case) -> None:
    expected, _, _ = encode_values(encoder, case.good)
    mixed: list[Any] = [case.good[0]]
    for value in case.bad.values():
        mixed += [value, case.good[1]]
    vectors, positions, failures = encode_values(encoder, mixed)
    assert {failure.reason: failure.position for failure in failures} == {
        reason: 2 * index + 1 for index, reason in enumerate(case.bad)
    }
    assert all(failure.detail.endswith((".", "]")) and not failure.transient for failure in failures)
    assert positions == list(range(0, len(mixed), 2))
    assert encoder.prepare(mixed).failures == failures  # found before any model saw them
    np.testing.assert_allclose(vectors[0], expected[0], rtol=1e-4, atol=1e-5)
    for row in vectors[1:]:
        np.testing.assert_allclose(row, expected[1], rtol=1e-4, atol=1e-5)


def test_only_bad_values_and_no_values_give_no_rows(encoder: Encoder, case: Case) -> None:
    for values in ([], list(case.bad.values())):
        vectors, positions, failures = encode_values(encoder, values)
        assert vectors.shape == (0, encoder.dim)
        assert positions == []
        assert len(failures) == len(values)


def test_none_is_a_programming_error(encoder: Encoder, case: Case) -> None:
    with pytest.raises(TypeError, match="None"):
        encode_values(encoder, [case.good[0], None])


def test_encode_before_load_raises(entry: tuple[str, str], case: Case) -> None:
    unloaded = made_for(entry, case)
    with pytest.raises(RuntimeError, match="load"):
        encode_values(unloaded, case.good)
    with pytest.raises(RuntimeError, match="load"):
        unloaded.encode([])


def test_the_fingerprint_follows_settings_and_kind(entry: tuple[str, str], case: Case) -> None:
    first = made_for(entry, case)
    assert len(first.fingerprint) == 64
    assert first.fingerprint == made_for(entry, case).fingerprint
    if case.other:
        assert first.fingerprint != made_for(entry, case, **case.other).fingerprint
    else:
        neutral = type(first).neutral_settings | {"id_column", "row_column", "array"}  # how files are read
        assert set(type(first).Settings.model_fields) <= neutral
    for limit in {"max_chars", "max_pixels", "refuse_seconds"} & set(case.settings):  # decides who fails, not vectors
        doubled = make_encoder(*entry, {**case.settings, limit: 2 * case.settings[limit]})
        doubled.restore(first.learned)
        assert first.fingerprint == doubled.fingerprint
    assert first.identity != type(first)("another kind", first.settings).identity


def test_the_fingerprint_follows_the_weights_content_and_not_their_place(
    entry: tuple[str, str], case: Case, tmp_path: Path
) -> None:
    if case.weights_key is None:
        assert bool(made_for(entry, case)._weights_hash()) == case.nested
        return
    here = Path(case.settings[case.weights_key])
    there = tmp_path / f"moved{here.suffix}"
    (shutil.copytree if here.is_dir() else shutil.copy)(here, there)
    moved = {**case.settings, case.weights_key: str(there)}
    before = make_encoder(*entry, case.settings).identity
    assert make_encoder(*entry, moved).identity == before
    file = there / "model.safetensors" if there.is_dir() else there
    if file.suffix == ".safetensors":
        state = load_file(file)
        name = sorted(state)[0]
        state[name] = state[name] + 0.5
        save_file(state, file, metadata={"format": "pt"})
    else:
        file.write_bytes(file.read_bytes().replace(b"0", b"1") + b"\n")
    assert make_encoder(*entry, moved).identity != before


def test_it_pickles_before_and_after_load_without_weights(entry: tuple[str, str], case: Case, encoder: Encoder) -> None:
    expected, _, _ = encode_values(encoder, case.good)
    for source in (made_for(entry, case), encoder):
        _ = source.fingerprint
        sent = pickle.dumps(source)
        assert len(sent) < 4000
        copy = pickle.loads(sent)
        assert not copy.loaded
        assert "fingerprint" in vars(copy)  # hashed once, on the driver
        copy.load()
        np.testing.assert_array_equal(encode_values(copy, case.good)[0], expected)


def test_the_dimension_is_known_before_load(entry: tuple[str, str], case: Case, encoder: Encoder) -> None:
    assert made_for(entry, case).dim == encode_values(encoder, case.good)[0].shape[1]


def test_missing_weights_are_a_settings_error(entry: tuple[str, str], case: Case) -> None:
    if case.weights_key is None:
        assert not {"path", "weights"} & set(type(make_encoder(*entry, case.settings)).Settings.model_fields)
        return
    lost = make_encoder(*entry, {**case.settings, case.weights_key: "/nowhere/at/all.safetensors"})
    with pytest.raises(SettingsError, match="/nowhere/at/all"):
        _ = lost.identity
    lost.restore({"frequencies": {}, "common": None})
    with pytest.raises(SettingsError, match="/nowhere/at/all"):
        lost.load()


def test_every_setting_is_described_and_unknown_ones_are_named(entry: tuple[str, str], case: Case) -> None:
    fields = type(make_encoder(*entry, case.settings)).Settings.model_fields
    assert [name for name, info in fields.items() if not info.description] == []
    name = sorted(fields)[0]
    with pytest.raises(SettingsError) as caught:
        make_encoder(*entry, {**case.settings, f"{name}x": 1})
    assert f"encoder.{name}x" in caught.value.message
    assert f"did you mean {name}" in caught.value.message
    assert caught.value.exit_code == 2


def test_a_kind_or_name_that_does_not_exist_lists_the_valid_ones() -> None:
    with pytest.raises(SettingsError, match="expected one of: hashing, transformer, word2vec"):
        make_encoder("text", "hashin", {})
    with pytest.raises(
        SettingsError, match="expected one of: attributes, audio, image, tags, text, vector, vector_id, video"
    ):
        make_encoder("smell", "hashing", {})
    with pytest.raises(SettingsError, match=r"encoder\.dim: .*integer.*'many'"):
        make_encoder("text", "hashing", {"dim": "many"})
    with pytest.raises(SettingsError, match=r"encoder\.dim is required"):
        make_encoder("vector", "column", {})


def test_the_registry_imports_neither_torch_nor_transformers_until_they_are_needed() -> None:
    code = (
        "import sys; from crossweave.encoders import make_encoder; from crossweave.encoders.batching import "
        "encode_values; e = make_encoder('text', 'hashing', {}); e.load(); encode_values(e, ['a word']); "
        "sys.exit(' '.join({'torch', 'transformers', 'torchvision', 'pyspark'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_the_transformer_loads_with_the_hub_switched_off(weights: dict[str, Path]) -> None:
    code = (
        "import sys, socket; socket.socket.connect = None; from crossweave.encoders import make_encoder; "
        f"e = make_encoder('text', 'transformer', {{'path': {str(weights['bert'])!r}}}); e.load(); "
        "sys.stdout.write(str(e.encode(e.prepare(['red pan']).examples).shape))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin", "HOME": "/nowhere"},
    )
    assert done.stdout == "(1, 16)", done.stderr
    assert "Loading weights" not in done.stderr  # the package never speaks to the terminal
