"""The space of a search: what it may name, how it may be written, and in which words the rest is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossweave.config import Settings, load_settings
from crossweave.config.space import check_space, is_whole, trial_settings
from crossweave.errors import SettingsError


def settings(*pairs: str) -> Settings:
    return load_settings([], ["search.trials=3", *pairs])


def refusal(*pairs: str) -> str:
    with pytest.raises(SettingsError) as caught:
        check_space(settings(*pairs))
    return caught.value.message


def test_a_file_may_write_a_path_with_dots_and_a_pair_adds_to_it_or_takes_it_out(tmp_path: Path) -> None:
    file = tmp_path / "search.yaml"
    file.write_text(
        "search: {space: {train.learning_rate: {low: 1e-3, high: 1e-2, log: true}, model.dim: {choices: [64, 128]}}}",
        encoding="utf-8",
    )
    pairs = ["model.dim=null", "train.clip_norm={low: 1, high: 5}", "train.learning_rate.high=0.1"]
    loaded = load_settings([file], [f"search.space.{pair}" for pair in pairs])
    assert set(loaded.search.space) == {"train.learning_rate", "train.clip_norm"}
    rate = loaded.search.space["train.learning_rate"]
    assert (rate.low, rate.high, rate.log) == (0.001, 0.1, True)
    check_space(loaded)


def test_a_trial_has_whole_settings_of_its_own_and_no_search() -> None:
    base = settings("search.space.model.dim={low: 64, high: 128}", "search.max_epochs=2")
    own = trial_settings(base, {"model.dim": 96, "model.losses.bpr": 0.5, "train.history_keep": [0.3, 0.8]})
    assert (own.model.dim, own.train.max_epochs, own.search.trials) == (96, 2, 0)
    assert own.model.losses == {"sampled_softmax": 1.0, "infonce": 0.05, "bpr": 0.5}
    assert own.train.history_keep == (0.3, 0.8)
    assert own.model_copy(update={"model": base.model, "train": base.train, "search": base.search}) == base


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (
            "train.learning_rat={low: 0.1, high: 1}",
            "search.space.train.learning_rat: unknown setting train.learning_rat (did you mean train.learning_rate",
        ),
        (
            "learning_rate={low: 0.1, high: 1}",
            "search.space.learning_rate: unknown setting learning_rate (did you mean train.learning_rate",
        ),
        ("train.learning_rate={low: 0, high: 1}", "search.space.train.learning_rate: train.learning_rate: Input"),
        ("model.item_id_dropout={low: 0.5, high: 1.5}", "search.space.model.item_id_dropout: model.item_id_dropout"),
        ("model.dim={low: 2.5, high: 8}", "search.space.model.dim: model.dim: Input should be a valid integer"),
        ("model.dim={low: 2, high: 8, step: 1.5}", "search.space.model.dim: model.dim: Input should be a valid int"),
        ("train.compression={choices: [none, fp17]}", "search.space.train.compression: train.compression: Input"),
        ("embed.batch_rows={low: 10, high: 100}", "search.space.embed.batch_rows cannot be searched"),
        ("train.metric={choices: ['ndcg@10', 'ndcg@20']}", "search.space.train.metric cannot be searched"),
    ],
)  # fmt: skip
def test_an_entry_that_no_trial_could_use_is_refused_by_its_path(pair: str, expected: str) -> None:
    assert refusal(f"search.space.{pair}").startswith(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{low: 1}", "expected {low, high}"),
        ("{low: 2, high: 1}", "low must stay below high, got 2 and 1"),
        ("{low: 0, high: 1, log: true}", "log needs a low above 0 and no step"),
        ("{low: 1, high: 2, step: 0.3}", "a whole number of steps"),
        ("{low: 1, choices: [1]}", "either choices or low and high"),
        ("{choices: []}", "at least 1 item"),
        ("{low: 1, hihg: 2}", "unknown setting search.space.train.clip_norm.hihg"),
        ("5", "valid dictionary"),
    ],
)
def test_a_range_that_is_none_is_refused(value: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(f"search.space.train.clip_norm={value}")
    assert expected in caught.value.message
    assert "search.space.train.clip_norm" in caught.value.message


def test_trials_without_a_space_are_refused() -> None:
    with pytest.raises(SettingsError, match="trials need a space"):
        settings()


def test_what_the_whole_training_refuses_is_refused_at_the_start() -> None:
    def check(own: Settings) -> None:
        if own.model.fusion == "gatd":
            raise SettingsError("unknown fusion 'gatd'", "did you mean gated?")

    with pytest.raises(SettingsError, match=r"search\.space\.model\.fusion: unknown fusion") as caught:
        check_space(settings("search.space.model.fusion={choices: [attention, gatd]}"), check)
    assert caught.value.hint == "did you mean gated?"


def test_two_budgets_at_once_are_refused() -> None:
    pairs = ("search.max_epochs=3", "search.space.train.max_epochs={low: 1, high: 5}")
    assert "decide the same" in refusal(*pairs)


@pytest.mark.parametrize(
    ("pair", "whole"),
    [
        ("model.dim={low: 8, high: 64}", True),
        ("train.weight_decay={low: 0, high: 1}", False),  # a fraction, however its ends are written
        ("model.losses.infonce={low: 0, high: 1}", False),
        ("model.collaborative.edlae.l2={low: 1, high: 8}", True),  # open: as it is written
        ("model.collaborative.edlae.l2={low: 1.0, high: 8}", False),
        ("model.collaborative.edlae.l2={low: 1, high: 8, step: 0.5}", False),
        ("model.fusion={choices: [gated, concat]}", False),
    ],
)
def test_a_range_is_of_whole_numbers_where_the_setting_is(pair: str, whole: bool) -> None:
    base = settings(f"search.space.{pair}")
    [(path, span)] = base.search.space.items()
    assert is_whole(base, path, span) is whole
