"""Weight files: hashed by content, looked into without loading, and refused in plain words."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from crossweave.errors import SettingsError

INDEX = "model.safetensors.index.json"
"""Says which of several weight files holds what, as transformers saves large models."""


def require_file(path: Path, what: str) -> Path:
    """`path` itself where it is a file. Raises SettingsError naming what it should have been."""
    if not path.is_file():
        raise SettingsError(
            f"{what}: there is no file {str(path)!r}", hint="Check the path, and that every worker sees the folder."
        )
    return path


def hash_files(files: Iterable[tuple[str, Path]]) -> str:
    """Hex SHA-256 over (name, content) of each file in the order of names; where they lie does not count."""
    whole = hashlib.sha256()
    for name, path in sorted(files):
        with path.open("rb") as stream:
            whole.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def read_json(path: Path, what: str) -> Any:
    """A JSON file's content. Raises SettingsError where it is missing or is not JSON."""
    try:
        return json.loads(require_file(path, what).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise SettingsError(f"{what}: {str(path)!r} is not JSON ({error})") from error


def safetensors_path(path: Path, what: str) -> Path:
    """`path` where it is a readable safetensors file. Raises SettingsError otherwise."""
    if path.suffix != ".safetensors":
        raise SettingsError(
            f"{what}: expected a .safetensors file, got {str(path)!r}",
            hint="Save the state_dict once with safetensors.torch.save_file; pickled weights are never loaded.",
        )
    require_file(path, what)
    try:
        with safe_open(path, framework="pt") as reader:
            reader.keys()
    except (SafetensorError, OSError) as error:
        raise SettingsError(f"{what}: {str(path)!r} is not a whole safetensors file ({error})") from error
    return path


def safetensors_in(folder: Path, name: str, what: str, made: str) -> Path:
    """The safetensors file of a directory that may hold a pickled one instead; `made` says what it is a directory of.

    Raises SettingsError where there is none, or only pickled weights.
    """
    if not (folder / name).is_file() and any(folder.glob("*.bin")):
        raise SettingsError(
            f"{what}: {str(folder)!r} holds pickled weights only, which are never loaded",
            hint=f"Save the {made} once with save_pretrained, which writes safetensors.",
        )
    return safetensors_path(folder / name, what)


def load_state(path: Path, what: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, or of a .pth or .pt file that holds tensors and nothing else, on the CPU.

    Raises SettingsError where it cannot be read.
    """
    if path.suffix not in (".pth", ".pt"):
        state: dict[str, torch.Tensor] = load_file(safetensors_path(path, what))
        return state
    try:
        found = torch.load(require_file(path, what), map_location="cpu", weights_only=True)  # runs no code of the file
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise SettingsError(
            f"{what}: {str(path)!r} cannot be read as tensors alone",
            hint="Other content of such files can run code, and is never loaded; save the model's state_dict.",
        ) from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise SettingsError(f"{what}: {str(path)!r} does not hold a state_dict (names and tensors)")
    return found
