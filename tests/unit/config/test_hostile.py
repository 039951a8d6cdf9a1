"""Whatever stands in the settings, they are valid or refused by SettingsError: there is no third end."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossweave.config import Settings, load_settings, override, settings_yaml
from crossweave.config.load import REPOSITORY_CONF, nested
from crossweave.config.plain import read_text, resolved
from crossweave.errors import SettingsError

LOCAL = REPOSITORY_CONF / "local.yaml"


def refusal(*pairs: str, files: tuple[Path, ...] = ()) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(files or [LOCAL], pairs)
    return caught.value.message


@functools.cache
def local() -> Settings:
    return load_settings([LOCAL])


def paths(value: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if prefix:
        yield prefix
    if isinstance(value, dict):
        for name, below in value.items():
            yield from paths(below, (*prefix, str(name)))


PATHS = sorted({".".join(path) for path in paths(local().model_dump(mode="json"))})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "\0", "???", "s3://a/b", "~", "/", ".", "a" * 5000, "\ud800", "1e999", "1e5", "0x1", "on"]
    ),
    st.sampled_from(["${seed}", "${", "\\${", "a\\${seed}b", "\\\\\\${"]),  # references, escaped or torn
    st.dates(),
    st.binary(max_size=4),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.text(max_size=6), st.integers()), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(path=st.sampled_from(PATHS), value=VALUES)
def test_any_value_at_any_path_gives_settings_that_can_be_saved_or_is_refused(path: str, value: Any) -> None:
    try:
        taken = override(local(), {path: value}, "test")
    except SettingsError as error:
        assert error.message
        assert "Traceback" not in error.message
        return
    assert Settings.model_validate(resolved(read_text(settings_yaml(taken)))) == taken  # as a settings file is read


@settings(max_examples=25, deadline=None)
@given(
    text=st.one_of(st.text(max_size=30), VALUES.map(str)), path=st.sampled_from([*PATHS, "", ".", "a..b", "seed[0]"])
)
def test_any_text_behind_set_gives_settings_or_is_refused(text: str, path: str) -> None:
    try:
        load_settings([], [f"{path}={text}"])
    except SettingsError as error:
        assert error.message


@settings(max_examples=25, deadline=None)
@given(
    raw=st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(str.encode),
        VALUES.map(lambda v: str(v).encode("utf-8", "replace")),
    )
)
def test_any_bytes_of_a_settings_file_give_settings_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.yaml"
    path.write_bytes(raw)
    try:
        load_settings([path])
    except SettingsError as error:
        assert error.message


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("train=[1, 2]", "train: Input should be a valid dictionary"),
        ("modalities=[text]", "modalities: Input should be a valid dictionary"),
        ("encoders.words=[1]", "encoders.words: Input should be a valid dictionary"),
        ("inputs.items.attributes={a: b}", "inputs.items.attributes: Input should be a valid list"),
        ("train.learning_rate=.inf", "train.learning_rate: expected a finite number, got inf"),
        ("train.weight_decay=.nan", "train.weight_decay: expected a finite number, got nan"),
        ("train.learning_rate='1e999'", "train.learning_rate: Input should be a finite number"),
        ("model.content_map.ridge=.inf", "model.content_map.ridge: expected a finite number"),
        ("train.ranks=true", "train.ranks: Value error, expected a number, not true or false"),
        ("evaluate.ks=[5, true]", "evaluate.ks"),
        ("train.ranks=99999999999999999999", "train.ranks: expected a number of at most 64 bits"),
        ("score.top_k=4000000000", "score.top_k: Input should be less than 2147483648"),
        ("gc.keep_days=999999999", "gc.keep_days"),
        ("seed=-1", "seed: Input should be greater than or equal to 0"),
        ("workspace=ftp://shop/ws", "workspace: ftp://shop/ws lies in a store that crossweave does not know"),
        ("inputs.root=http://h/in", "inputs.root: http://h/in lies in a store"),
        ("inputs.items.path=s3:///items", "inputs.items.path: s3:///items names no bucket"),
        (
            "inputs.users.path=s3://key:Tr0ub4dor-and-3@shop/users",
            "inputs.users.path: s3://… names no bucket: write s3://BUCKET/PATH",
        ),
        ("export.path=gs://", "export.path: gs:// names no bucket"),
        ("weights.root=https://h/w", "weights.root: the scheme https:// is not served"),
        ("workspace='~/ws'", "workspace: a leading ~ is the shell's"),
        ("workspace=''", "workspace: expected a name or a path, got an empty text"),
        ("inputs.items.id=' '", "inputs.items.id: expected a name or a path"),
        ('workspace="a\\0b"', "workspace: text cannot hold a null byte"),
        ("model.fusion_settings={a: !!binary aGk=}", "model.fusion_settings.a: expected text, a number"),
        ("workspace=", "--set workspace=: there is no value behind the ="),
        ("seed=???", "Missing mandatory value: seed"),
        ("inputs.items.attributes=[Brand, brand]", "'brand' stands there twice"),
        ("evaluate.ks=[5, 5]", "evaluate.ks: 5 stands there twice"),
        ("score.rules.at_most={Brand: 1, brand: 2}", "'brand' stands there twice"),
        ("search.space={train.max_epochs: {low: -1.0e308, high: 1.0e308, step: 1}}", "whole number of steps"),
        ("split.valid_from=0001-01-01T00:00:00+23:00", "expected a time that UTC can hold"),
    ],
)
def test_what_no_setting_can_be_is_refused_by_its_path(pair: str, words: str) -> None:
    assert words.replace("Value error, ", "") in refusal(pair)


def test_a_place_may_be_written_as_a_file_s_address() -> None:
    taken = load_settings([LOCAL], ["workspace=file:///data/my%20ws"])
    assert taken.workspace == "/data/my ws"
    assert taken.inputs.items.path == "/data/my ws/demo/items.parquet"


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (BOMB.encode(), "not readable as YAML"),
        (b"a: &a [*a]", "not readable as YAML"),
        (b"seed: " + b"[" * 3000 + b"]" * 3000, "not readable as YAML"),
        (b"7", "not readable as YAML"),
        (b"train: {ranks: 1, ranks: 2}", "not readable as YAML"),
        ("seed: 5".encode("utf-16"), "it is not UTF-8 text"),
        (b"\x00\x01PAR1", "not readable as YAML"),
        (b"seed:\t5\n\tx: 1", "not readable as YAML"),
    ],
)
def test_a_file_that_is_no_settings_file_is_refused_by_its_name(tmp_path: Path, raw: bytes, words: str) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_bytes(raw)
    message = refusal(files=(path,))
    assert message.startswith(str(path))
    assert words in message


def test_a_byte_order_mark_is_no_part_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfseed: 5")
    assert load_settings([path]).seed == 5


def test_a_path_below_a_value_that_is_given_too_is_refused() -> None:
    with pytest.raises(SettingsError, match="lies below a setting"):
        nested({"train.max_epochs": 3, "train.max_epochs.x": 4})
