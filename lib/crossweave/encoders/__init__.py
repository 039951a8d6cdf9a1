"""Modality encoders: every encoder is one module, one line in `ENCODERS` and its settings in conf."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from crossweave.encoders.base import relocated
from crossweave.errors import SettingsError

if TYPE_CHECKING:
    from crossweave.encoders.base import Encoder

# Explicit, because a registry filled by decorators is empty in a worker that never imported the module;
# strings, because torch and transformers take seconds to import and most runs need only some of them.
ENCODERS: dict[tuple[str, str], str] = {
    ("text", "hashing"): "crossweave.encoders.hashing:HashingEncoder",
    ("tags", "hashing"): "crossweave.encoders.hashing:HashingEncoder",
    ("text", "transformer"): "crossweave.encoders.transformer_text:TransformerEncoder",
    ("tags", "transformer"): "crossweave.encoders.transformer_text:TransformerEncoder",
    ("text", "word2vec"): "crossweave.encoders.word2vec:Word2vecEncoder",
    ("tags", "word2vec"): "crossweave.encoders.word2vec:Word2vecEncoder",
    ("tags", "tfidf"): "crossweave.encoders.tfidf:TfidfEncoder",
    ("attributes", "tabular"): "crossweave.encoders.tabular:TabularEncoder",
    ("image", "descriptor"): "crossweave.encoders.descriptor:DescriptorEncoder",
    ("image", "torchvision"): "crossweave.encoders.torchvision_image:TorchvisionEncoder",
    ("image", "transformer"): "crossweave.encoders.transformer_image:ImageTransformerEncoder",
    ("image", "vae"): "crossweave.encoders.vae_image:VaeEncoder",
    ("audio", "spectrogram"): "crossweave.encoders.spectrogram:SpectrogramEncoder",
    ("audio", "transformer"): "crossweave.encoders.transformer_audio:AudioTransformerEncoder",
    ("audio", "mfcc"): "crossweave.encoders.mfcc:MfccEncoder",
    ("audio", "midi"): "crossweave.encoders.midi:MidiEncoder",
    ("video", "frames"): "crossweave.encoders.video:FramesEncoder",
    ("video", "soundtrack"): "crossweave.encoders.video:SoundtrackEncoder",
    ("vector_id", "file"): "crossweave.encoders.vector_file:VectorFileEncoder",
    ("vector", "column"): "crossweave.encoders.column:ColumnEncoder",
}


def make_encoder(
    kind: str,
    name: str,
    settings: Mapping[str, Any],
    path: str = "encoder",
    places: Mapping[str, Path] | None = None,
) -> Encoder:
    """Build the encoder `name` for modalities of `kind`, without loading weights.

    `path` is where its settings stand, for messages; `places`: where files lie that it takes instead of those that its
    settings name, by the setting. Raises SettingsError when no such encoder exists, or when a
    setting is unknown, missing or of a wrong type.
    """
    chosen, instead = encoder_class(kind, name), places or {}
    nowhere = {setting: str(place) for setting, place in instead.items() if setting not in settings}
    try:
        checked = chosen.Settings.model_validate({**settings, **nowhere})
    except pydantic.ValidationError as error:
        known = sorted(chosen.Settings.model_fields)
        raise SettingsError(
            f"encoder {name!r} ({kind}): " + "; ".join(_explain(item, known, path) for item in error.errors()),
            hint=f"Settings of this encoder: {', '.join(known)}.",
        ) from error
    return chosen(kind, relocated(checked, instead) if instead else checked)


def encoder_class(kind: str, name: str) -> type[Encoder]:
    """Return the class of an encoder; raises SettingsError where there is none of this name for this kind."""
    target = ENCODERS.get((kind, name))
    if target is None:
        kinds = sorted({known_kind for known_kind, _ in ENCODERS})
        names = sorted(known_name for known_kind, known_name in ENCODERS if known_kind == kind)
        if not names:
            raise SettingsError(
                f"no encoder exists for kind {kind!r}; expected one of: {', '.join(kinds)}", hint=_near(kind, kinds)
            )
        raise SettingsError(
            f"encoder type {name!r} does not exist for kind {kind!r}; expected one of: {', '.join(names)}",
            hint=_near(name, names),
        )
    module_name, _, class_name = target.partition(":")
    found: type[Encoder] = getattr(importlib.import_module(module_name), class_name)
    return found


def _explain(item: Mapping[str, Any], known: list[str], place: str) -> str:
    """One pydantic error as a phrase: the path, what was expected, what came, and near matches."""
    path = ".".join([place, *(str(part) for part in item["loc"])])
    if item["type"] == "extra_forbidden":
        near = _near(str(item["loc"][-1]), known)
        return f"{path} is not a setting, expected one of: {', '.join(known)}" + (f" ({near})" if near else "")
    if item["type"] == "missing":
        return f"{path} is required and was not given"
    return f"{path}: {item['msg']}, got {item['input']!r:.100}"


def _near(word: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(word, known, n=3)
    return f"did you mean {' or '.join(matches)}?" if matches else ""
