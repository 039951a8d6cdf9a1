"""The settings as they are saved: references stay, secrets are left out, and nothing else is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from crossweave.config import Settings, load_settings, override, saved_settings, settings_yaml
from crossweave.errors import SettingsError
from crossweave.redaction import HIDDEN, forget, redacted

CANARY = "canary-7f3a x"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    forget()
    for name, value in {"SHOP": CANARY, "NUMBER": "24", "DB_PASSWORD": "pw-1"}.items():
        monkeypatch.setenv(name, value)
    yield
    forget()


def load(folder: Path, text: str, *pairs: str) -> Settings:
    path = folder / "over.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings([path], pairs)


def test_a_value_from_the_environment_is_saved_as_the_reference_to_it(tmp_path: Path) -> None:
    settings = load(tmp_path, "inputs: {root: '/data/${oc.env:SHOP}/x'}\nmodel: {dim: '${oc.env:NUMBER}'}")
    assert settings.inputs.items.path == f"/data/{CANARY}/x/items.parquet"
    assert settings.model.dim == 24
    text = settings_yaml(settings)
    assert CANARY not in text
    saved = yaml.safe_load(text)
    assert saved["inputs"]["root"] == "/data/${oc.env:SHOP}/x"
    assert saved["inputs"]["items"]["path"] == "${inputs.root}/items.parquet"  # which would have held it too
    assert saved["model"]["dim"] == "${oc.env:NUMBER}"
    assert saved["inputs"]["items"]["id"] == "item_id"


@pytest.mark.parametrize(
    "text",
    [
        "evaluate: {item_slices: [a, '${oc.env:SHOP}']}",
        "encoders: {w: '${oc.create:{type: hashing, dim: 8, note: ${oc.env:SHOP}}}'}",
        "weights: {root: '${oc.decode:${oc.env:SHOP}}'}",
        "weights: {root: '${oc.select:nowhere,${oc.env:SHOP}}'}",
        "encoders: {w: {type: hashing, deep: {list: [{x: 'a ${oc.env:SHOP} b'}]}}}",
    ],
)
def test_a_reference_is_kept_wherever_it_stands(tmp_path: Path, text: str) -> None:
    settings = load(tmp_path, text)
    assert CANARY in str(settings.model_dump())
    assert CANARY not in settings_yaml(settings)
    again = load(tmp_path, settings_yaml(settings))
    assert again.model_dump() == settings.model_dump()
    assert settings_yaml(again) == settings_yaml(settings)


def test_saved_settings_are_loaded_with_what_the_environment_holds_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = settings_yaml(load(tmp_path, "inputs: {root: '${oc.env:SHOP}'}"))
    monkeypatch.setenv("SHOP", "/other")
    assert load(tmp_path, text).inputs.users.path is None
    assert load(tmp_path, text).inputs.items.path == "/other/items.parquet"


def test_settings_laid_over_others_keep_the_references_that_they_leave(tmp_path: Path) -> None:
    settings = load(tmp_path, "inputs: {root: '${oc.env:SHOP}'}\nmodel: {dim: '${oc.env:NUMBER}'}")
    over = override(settings, {"model.dim": 48}, "search.space")
    saved = saved_settings(over)
    assert (over.model.dim, saved["model"]["dim"]) == (48, 48)
    assert (over.inputs.root, saved["inputs"]["root"]) == (CANARY, "${oc.env:SHOP}")


def test_values_under_names_that_say_secret_are_left_out_and_must_be_given_again(tmp_path: Path) -> None:
    settings = load(tmp_path, "encoders: {w: {type: hashing, api_key: canary-1, deep: {pin: {password: 1234}}}}")
    text = settings_yaml(settings)
    assert "canary-1" not in text
    assert "1234" not in text
    assert redacted("encoder w: canary-1 is refused") == f"encoder w: {HIDDEN} is refused"
    with pytest.raises(
        SettingsError, match=r"encoders\.w\.api_key, encoders\.w\.deep\.pin\.password: the value was left"
    ):
        load(tmp_path, text)
    again = load(tmp_path, text, "encoders.w.api_key=canary-2", "encoders.w.deep.pin.password=${oc.env:DB_PASSWORD}")
    assert again.encoders["w"].own["api_key"] == "canary-2"


def test_credentials_inside_of_uris_are_left_out(tmp_path: Path) -> None:
    uri = "s3://id:canary-3@bucket/x?X-Amz-Signature=canary-4&v=1"
    settings = load(tmp_path, f"encoders: {{w: {{type: hashing, note: '{uri}'}}}}")
    assert yaml.safe_load(settings_yaml(settings))["encoders"]["w"]["note"] == (
        f"s3://{HIDDEN}@bucket/x?X-Amz-Signature={HIDDEN}&v=1"
    )
    with pytest.raises(SettingsError, match="not served") as caught:  # a refusal is said without them too
        load(tmp_path, f"weights: {{root: '{uri}'}}")
    assert "canary" not in redacted(caught.value.message)


def test_the_fallback_of_a_secret_reference_is_left_out_and_that_of_others_kept(tmp_path: Path) -> None:
    text = "weights: {root: '${oc.env:NOWHERE,w/x}'}\nencoders: {w: {type: hashing, token: '${oc.env:NOPE,canary-5}'}}"
    saved = saved_settings(load(tmp_path, text))
    assert saved["weights"]["root"] == "${oc.env:NOWHERE,w/x}"
    assert saved["encoders"]["w"]["token"] == f"${{oc.env:NOPE,{HIDDEN}}}"
    assert redacted("bad canary-5") == f"bad {HIDDEN}"


def test_names_that_users_gave_are_no_secrets(tmp_path: Path) -> None:
    text = """
inputs: {items: {derived: {key: "upper(title)", token: "lower(title)"}}}
score: {rules: {allow: {key: [C]}, at_most: {signature: 3}}}
modalities: {key: {kind: text, columns: [key], encoder: token}}
encoders: {token: {type: hashing, dim: 8}, t: {type: tabular, columns: {key: {as: category}}}}
"""
    settings = load(tmp_path, text)
    assert HIDDEN not in settings_yaml(settings)
    assert load(tmp_path, settings_yaml(settings)) == settings


def test_an_escaped_dollar_sign_is_saved_so_that_it_is_read_as_one(tmp_path: Path) -> None:
    settings = load(tmp_path, r"weights: {root: 'a\${b}c'}")
    assert settings.weights.root == "a${b}c"
    assert load(tmp_path, settings_yaml(settings)).weights.root == "a${b}c"
