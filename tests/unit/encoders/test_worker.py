"""One task's stream of values: windows, prefetching, the self-test's arithmetic."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import picture, tiny_bert

from crossweave.encoders import isolation, make_encoder
from crossweave.encoders.hashing import HashingEncoder
from crossweave.encoders.precision import Int8Linear, cast
from crossweave.encoders.prefetch import ahead
from crossweave.encoders.selftest import choose
from crossweave.encoders.worker import _LOADED, Limits, encode_stream, usable_device
from crossweave.errors import SettingsError

ISOLATED = Limits(True, 30.0, 1024)
PLAIN = Limits(False, 30.0, 1024)


@pytest.mark.parametrize("limits", [ISOLATED, PLAIN], ids=["isolated", "plain"])
def test_every_key_comes_out_once_in_a_vector_or_a_failure(limits: Limits) -> None:
    encoder = make_encoder("image", "descriptor", {})
    rows = [(f"key{i}", picture("red", (40 + i, 30)) if i % 7 else b"broken") for i in range(150)]
    windows = list(encode_stream(encoder, rows, limits, "cpu", 1))
    assert len(windows) == 3  # of 64 values
    vectors = [key for window in windows for key in window.keys]
    failures = {key: failure.reason for window in windows for key, failure in window.failures}
    assert vectors == [key for key, value in rows if value != b"broken"]
    assert failures == {key: "undecodable" for key, value in rows if value == b"broken"}


def test_a_task_without_rows_loads_nothing() -> None:
    encoder = make_encoder("image", "descriptor", {"max_pixels": 12_345})
    assert list(encode_stream(encoder, [], ISOLATED, "cpu", 1)) == []
    assert not encoder.loaded


def test_the_spawner_is_forked_before_any_model_is_loaded_even_for_a_text_encoder() -> None:
    forked: list[bool] = []

    class Watching(HashingEncoder):
        def _load(self, device: str) -> None:
            forked.append(bool(isolation._SPAWNERS))
            super()._load(device)

    isolation._SPAWNERS.clear()
    encoder = Watching("text", HashingEncoder.Settings.model_validate({"dim": 72}))
    list(encode_stream(encoder, [("a", "red pan")], ISOLATED, "cpu", 1))
    assert forked == [True]


def test_isolated_and_plain_vectors_are_the_same_bytes() -> None:
    rows = [(str(i), picture(colour)) for i, colour in enumerate(["red", "green", "blue"])]
    one, other = (
        next(encode_stream(make_encoder("image", "descriptor", {}), rows, limits, "cpu", 1))
        for limits in (ISOLATED, PLAIN)
    )
    np.testing.assert_array_equal(one.vectors_GD, other.vectors_GD)


def test_cuda_without_a_gpu_is_refused_and_auto_takes_the_cpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert usable_device("auto", None) == "cpu"
    with pytest.raises(SettingsError, match="torch sees no GPU"):
        usable_device("cuda", "0")


def test_the_next_item_is_drawn_while_the_last_one_is_in_use() -> None:
    drawn = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        drawn.set()
        yield 2

    items = ahead(source())
    assert next(items) == 1
    assert drawn.wait(5)  # without anybody asking for the second
    assert list(items) == [2]


def test_an_error_of_the_source_is_raised_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("torn")

    seen = []
    with pytest.raises(ValueError, match="torn"):
        for item in ahead(source()):
            seen.append(item)
    assert seen == [1]


def test_stopping_early_stops_the_thread() -> None:
    items = ahead(iter(range(1_000_000)))
    next(items)
    items.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_int8_rows_stay_close_even_beside_a_huge_row() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(96, 64)
    rows = torch.randn(4, 5, 96)
    rows[0, 0] *= 1000  # one scale for the whole batch would flatten all others to zero
    exact, eights = linear(rows), Int8Linear(linear)(rows)
    assert eights.shape == exact.shape
    assert torch.nn.functional.cosine_similarity(exact, eights, dim=-1).min() > 0.999


def test_casting_to_int8_replaces_wide_linear_layers_only() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Sequential(torch.nn.Linear(64, 4)))
    names = [type(module).__name__ for module in cast(model, "int8").modules()]
    assert names == ["Sequential", "Int8Linear", "Sequential", "Linear"]


def test_a_self_test_chooses_an_eligible_precision_and_tells_what_it_tried(tmp_path: Path) -> None:
    encoder = make_encoder("text", "transformer", {"path": str(tiny_bert(tmp_path / "bert"))})
    assert encoder.open_choices
    verdict = choose(encoder, ["red shirt", "the steel pan", "blue"], "cpu", PLAIN)
    assert verdict.precision in [trial.precision for trial in verdict.trials]
    assert verdict.trials[0].precision == "float32"
    chosen = next(trial for trial in verdict.trials if trial.precision == verdict.precision)
    assert chosen.mean_cosine >= 0.99
    assert not encoder.loaded
    assert encoder.precision == "float32"  # until it is settled


def test_a_settled_precision_changes_the_fingerprint_and_a_back_end_does_not(tmp_path: Path) -> None:
    path = str(tiny_bert(tmp_path / "bert"))
    encoder = make_encoder("text", "transformer", {"path": path})
    before, identity = encoder.fingerprint, encoder.identity
    encoder.settle("float32", "compiled")
    assert encoder.fingerprint == before
    encoder.settle("int8", "eager")
    assert encoder.fingerprint != before
    assert encoder.identity == identity
    assert make_encoder("text", "transformer", {"path": path, "precision": "int8"}).fingerprint == encoder.fingerprint
    fixed = make_encoder("text", "transformer", {"path": path, "precision": "float32", "backend": "eager"})
    fixed.settle("int8", "eager")
    assert (fixed.precision, fixed.open_choices) == ("float32", False)


@pytest.fixture(autouse=True)
def _forget_loaded_encoders():
    yield
    _LOADED.clear()
