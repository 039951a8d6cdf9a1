"""Loads transformers' own classes from local directories: no network, no pickles, no code from the directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from crossweave.encoders.torchvision_compat import define_missing_schemas
from crossweave.encoders.weights import INDEX, read_json, safetensors_in, safetensors_path
from crossweave.errors import SettingsError

WHAT = "encoder.path"
PREPROCESSOR = "preprocessor_config.json"


def import_transformers() -> Any:
    """transformers, imported late (seconds) and after torchvision can be (it would fail to import its models)."""
    # A worker has its share of the cores; the tokenizer's own threads would take them all and do not survive a fork.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    define_missing_schemas()
    import transformers

    transformers.utils.logging.disable_progress_bar()  # only jobs speak to the terminal
    transformers.utils.logging.set_verbosity_error()  # weights that another task needs are no news
    return transformers


def load_model(
    model_class: Any, path: Path, may_lack: tuple[str, ...] = ("pooler.", "masked_spec_embed"), **options: Any
) -> Any:
    """A model of a transformers class, float32, in evaluation mode.

    Raises SettingsError where it cannot be loaded, or where weights are missing other than those whose names start
    with one of `may_lack`: transformers would fill them with random numbers.
    """
    try:
        model, report = model_class.from_pretrained(
            str(path),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # transformers raises whatever its files lead it to
        raise SettingsError(f"{WHAT}: the model in {str(path)!r} cannot be loaded ({error})") from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(may_lack))
    if missing:
        raise SettingsError(
            f"{WHAT}: the weights in {str(path)!r} lack {', '.join(missing[:5])} ({len(missing)} in all)"
        )
    return model.eval()


def model_of_shapes(path: Path) -> torch.nn.Module:
    """The model that a directory describes, on the meta device. Raises SettingsError where it cannot be built."""
    transformers = import_transformers()
    try:
        config = transformers.AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model: torch.nn.Module = transformers.AutoModel.from_config(config, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever its files lead it to
        raise SettingsError(f"{WHAT}: the model in {str(path)!r} cannot be built ({error})") from error
    return model


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a model directory. Raises SettingsError where directory or file are missing."""
    if not path.is_dir():
        raise SettingsError(
            f"{WHAT}: there is no directory {str(path)!r}", hint="Models are never downloaded: put the folder there."
        )
    config: dict[str, Any] = read_json(path / "config.json", WHAT)
    return config


def weight_files(path: Path) -> list[str]:
    """Names of a directory's safetensors files. Raises SettingsError where there are none, or only pickled weights."""
    index = path / INDEX
    if not index.is_file():
        return [safetensors_in(path, "model.safetensors", WHAT, "model").name]
    names = sorted(set(read_json(index, WHAT)["weight_map"].values()))
    for name in names:
        safetensors_path(path / name, WHAT)
    return names


def media_files(path: Path) -> tuple[tuple[str, Path], ...]:
    """What decides a picture's or sound's vector in a directory: weights, config and preprocessor, each by its name."""
    return tuple((name, path / name) for name in (*weight_files(path), "config.json", PREPROCESSOR))
