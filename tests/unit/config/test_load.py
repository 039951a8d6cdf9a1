"""Loading the settings: which source wins, what is refused and in which words, and that nothing is lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from crossweave.config import Settings, load_settings, settings_yaml
from crossweave.config.load import REPOSITORY_CONF
from crossweave.errors import SettingsError

MODALITY = """
encoders:
  words: {type: hashing, dim: 8}
modalities:
  text: {kind: text, columns: [title], encoder: words}
"""


def write(folder: Path, text: str, name: str = "over.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(*files: Path, pairs: tuple[str, ...] = ()) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(files, pairs)
    assert caught.value.exit_code == 2
    return caught.value.message


def test_base_yaml_alone_is_complete() -> None:
    settings = load_settings()
    assert (settings.seed, settings.train.ranks, settings.score.top_k) == (17, 2, 50)
    assert settings.modalities == {}


def test_a_conf_file_wins_over_base_and_leaves_the_rest(tmp_path: Path) -> None:
    settings = load_settings([write(tmp_path, "train: {ranks: 3}")])
    assert (settings.train.ranks, settings.train.threads) == (3, 1)


def test_a_later_conf_file_wins_over_an_earlier_one(tmp_path: Path) -> None:
    first = write(tmp_path, "train: {ranks: 3, threads: 5}", "first.yaml")
    second = write(tmp_path, "train: {ranks: 4}", "second.yaml")
    assert load_settings([first, second]).train.ranks == 4
    assert load_settings([second, first]).train.ranks == 3
    assert load_settings([first, second]).train.threads == 5


def test_set_pairs_win_over_files_and_the_last_pair_over_the_first(tmp_path: Path) -> None:
    file = write(tmp_path, "train: {ranks: 3}\nseed: 5")
    settings = load_settings([file], ["train.ranks=6", "train.ranks=7"])
    assert (settings.train.ranks, settings.seed) == (7, 5)


def test_a_set_pair_takes_yaml_values() -> None:
    pairs = ["evaluate.ks=[1, 2]", "inputs.items.title=null", "embed.retry_failed=true", "workspace=a=b"]
    settings = load_settings([], pairs)
    assert settings.evaluate.ks == [1, 2]
    assert settings.inputs.items.title is None
    assert settings.embed.retry_failed is True
    assert settings.workspace == "a=b"


def test_interpolation_follows_the_merged_values_not_the_defaults() -> None:
    assert load_settings().inputs.items.path == "ws/demo/items.parquet"
    assert load_settings([], ["workspace=/w"]).inputs.items.path == "/w/demo/items.parquet"
    assert load_settings([], ["workspace=/w", "inputs.root=/in"]).inputs.interactions.path == "/in/interactions.parquet"


def test_an_interpolation_of_something_that_is_not_there_is_named() -> None:
    message = refusal(pairs=("inputs.root=${nowhere.at_all}",))
    assert "nowhere.at_all" in message


@pytest.mark.parametrize(
    ("pair", "path", "near"),
    [
        ("train.learning_rat=0.1", "train.learning_rat", "train.learning_rate"),
        ("embd.device=cpu", "embd", "embed"),
        ("top_k=5", "top_k", "score.top_k"),
        ("inputs.items.titel=x", "inputs.items.titel", "inputs.items.title"),
    ],
)
def test_an_unknown_key_is_named_with_a_near_match(pair: str, path: str, near: str) -> None:
    message = refusal(pairs=(pair,))
    assert f"unknown setting {path} (did you mean " in message
    assert near in message


def test_an_unknown_key_like_no_other_is_named_without_a_guess() -> None:
    assert refusal(pairs=("zzzzqqq=1",)) == "unknown setting zzzzqqq"


def test_every_mistake_is_named_at_once() -> None:
    message = refusal(pairs=("train.ranks=0", "seed=often", "zzzzqqq=1"))
    assert [word in message for word in ("train.ranks", "seed", "zzzzqqq")] == [True, True, True]


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("train.ranks=many", "train.ranks: Input should be a valid integer"),
        ("evaluate.ks=5", "evaluate.ks: Input should be a valid list"),
        ("train=5", "train: Input should be a valid dictionary"),
        ("embed.device=tpu", "embed.device: Input should be 'auto', 'cpu' or 'cuda'"),
        ("workspace=7", "workspace: Input should be a valid string"),
        ("export.what=null", "export.what: Input should be 'recommendations'"),
        ("train.metric=auc", "train.metric: String should match pattern"),
    ],
)
def test_a_wrong_type_is_named_with_what_was_expected_and_what_came(pair: str, expected: str) -> None:
    message = refusal(pairs=(pair,))
    assert message.startswith(expected)
    assert "got " in message


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (("train.ranks=0",), "train.ranks: Input should be greater than or equal to 1, got 0"),
        (("embed.max_bad_fraction=1.5",), "embed.max_bad_fraction: Input should be less than or equal to 1, got 1.5"),
        (("train.learning_rate=0",), "train.learning_rate: Input should be greater than 0, got 0"),
        (("train.history_keep=[0.9,0.5]",), "train.history_keep: expected two shares"),
        (("split.valid_fraction=0.5", "split.test_fraction=0.5"), "split: valid_fraction + test_fraction must stay"),
        (("demo.items=3",), "demo.items: Input should be greater than or equal to 40, got 3"),
        (("evaluate.ks=[]",), "evaluate.ks: List should have at least 1 item"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(pairs: tuple[str, ...], expected: str) -> None:
    assert refusal(pairs=pairs).startswith(expected)


@pytest.mark.parametrize("torn", ["train: {ranks: 3", "a: b: c", 'seed: "17', "\tseed: 1", "seed: 1\nseed: 2"])
def test_torn_yaml_is_refused_by_the_name_of_its_file(tmp_path: Path, torn: str) -> None:
    path = write(tmp_path, torn)
    assert refusal(path).startswith(f"{path} is not readable as YAML")


def test_bytes_that_are_no_text_are_refused_by_the_name_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "over.yaml"
    path.write_bytes(b"seed: \xff\xfe")
    assert refusal(path).startswith(f"{path} is not readable as YAML")


def test_yaml_that_is_a_list_is_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, "- seed\n- 1")
    assert refusal(path) == f"{path} must hold sections of settings, not a list or a plain value"


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_settings([write(tmp_path, "# nothing here\n")]) == load_settings()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"
    assert refusal(path) == f"the settings file {path} does not exist"
    assert refusal(tmp_path) == f"the settings file {tmp_path} is a folder"


@pytest.mark.parametrize("pair", ["seed", "=5", " =5"])
def test_a_set_pair_without_key_or_value_is_refused(pair: str) -> None:
    assert refusal(pairs=(pair,)) == f"--set takes section.key=value, got {pair!r}"


def test_a_set_pair_with_torn_yaml_is_refused() -> None:
    assert refusal(pairs=("evaluate.ks=[1, 2",)).startswith("--set evaluate.ks=[1, 2: the value is not readable")


def test_a_modality_with_an_encoder_that_is_not_defined_is_named_with_those_that_are(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, MODALITY), pairs=("modalities.text.encoder=wrods",))
    assert message == "modalities.text.encoder names 'wrods', which `encoders` does not define (words)"


def test_a_modality_lacking_its_columns_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "encoders: {w: {type: hashing}}\nmodalities: {text: {kind: text, encoder: w}}")
    assert refusal(path) == "modalities.text.columns is required"


def test_only_text_is_read_from_several_columns(tmp_path: Path) -> None:
    path = write(tmp_path, MODALITY)
    assert load_settings([path], ["modalities.text.columns=[a, b]"]).modalities["text"].columns == ["a", "b"]
    message = refusal(path, pairs=("modalities.text.columns=[a, b]", "modalities.text.kind=image"))
    assert message.startswith("modalities.text: a modality of kind image is read from exactly one column")


@pytest.mark.parametrize("name", ["Text", "../up", "1st", "a" * 41])
def test_a_modality_whose_name_could_not_name_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, MODALITY.replace("text: {", f'"{name}": {{'))
    assert "String should match pattern" in refusal(path)


def test_an_encoder_keeps_settings_of_its_own(tmp_path: Path) -> None:
    encoder = load_settings([write(tmp_path, MODALITY)]).encoders["words"]
    assert (encoder.type, encoder.own) == ("hashing", {"dim": 8})


def test_the_cold_protocol_needs_the_column_that_flags_withheld_items() -> None:
    message = refusal(pairs=("split.protocol=cold",))
    assert message.startswith("split.protocol=cold needs inputs.items.cold_column")
    assert load_settings([], ["split.protocol=cold", "inputs.items.cold_column=cold"]).split.protocol == "cold"


def test_drawn_cold_items_serve_the_cold_protocol_in_place_of_a_column() -> None:
    assert load_settings([], ["split.protocol=cold", "split.cold_items=0.1"]).split.cold_items == 0.1
    assert "give one" in refusal(pairs=("split.cold_items=0.1", "inputs.items.cold_column=cold"))
    assert "nothing is left" in refusal(pairs=("split.cold_items=1.0",))


def test_splits_by_time_need_the_column_of_times() -> None:
    for method in ("leave_last_out", "global_time"):
        assert "needs inputs.interactions.time" in refusal(pairs=(f"split.method={method}",))
        assert load_settings([], [f"split.method={method}", "inputs.interactions.time=at"]).split.method == method


def test_cut_times_are_two_in_order_and_in_utc() -> None:
    times = ["split.valid_from=2026-01-02T01:00:00+01:00", "split.test_from=2026-01-03"]
    split = load_settings([], times).split
    assert [str(split.valid_from), str(split.test_from)] == ["2026-01-02 00:00:00+00:00", "2026-01-03 00:00:00+00:00"]
    assert "give both times" in refusal(pairs=(times[0],))
    assert "must not lie after" in refusal(pairs=("split.valid_from=2026-01-04", times[1]))


def test_settings_cannot_be_changed_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().train.ranks = 9  # type: ignore[misc]


OVER_OTHERS = ("base.yaml", "pretrained.yaml", "pretrain.yaml")
SHIPPED = [
    [],
    *[[path] for path in sorted(REPOSITORY_CONF.glob("*.yaml")) if path.name not in OVER_OTHERS],
    [REPOSITORY_CONF / "movies.yaml", REPOSITORY_CONF / "pretrained.yaml"],
    [REPOSITORY_CONF / "local.yaml", REPOSITORY_CONF / "pretrained.yaml"],
    [REPOSITORY_CONF / "local.yaml", REPOSITORY_CONF / "pretrain.yaml"],
]


@pytest.mark.parametrize("files", SHIPPED, ids=lambda files: "+".join(f.stem for f in files) or "base")
def test_resolved_settings_written_out_load_as_the_same_settings(tmp_path: Path, files: list[Path]) -> None:
    settings = load_settings(files, ["workspace=/w x/ü", "seed=3"])
    text = settings_yaml(settings)
    assert "${" not in text
    again = load_settings([write(tmp_path, text)])
    assert again == settings
    assert settings_yaml(again) == text


def test_the_pretrained_overlay_changes_two_encoders_of_movies_and_keeps_the_others() -> None:
    files = [REPOSITORY_CONF / "movies.yaml", REPOSITORY_CONF / "pretrained.yaml"]
    settings = load_settings(files, ["weights.root=/weights"])
    assert {name: modality.encoder for name, modality in settings.modalities.items()} == {
        "text": "minilm",
        "director": "directors",
        "cast": "actors",
        "tags": "labels",
        "image": "mobilenet",
        "year": "years",
    }
    assert settings.encoders["minilm"].own["path"] == "/weights/all-MiniLM-L6-v2"
    assert settings.modalities["text"].columns == ["title", "text"]


def test_base_yaml_says_every_setting_that_the_schema_knows() -> None:
    plain = yaml.safe_load((REPOSITORY_CONF / "base.yaml").read_text(encoding="utf-8"))

    def lacking(model: type, value: dict, path: str) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            if name not in value:
                found.append(f"{path}{name}")
            elif hasattr(field.annotation, "model_fields"):
                found += lacking(field.annotation, value[name], f"{path}{name}.")
        return found

    assert lacking(Settings, plain, "") == []
