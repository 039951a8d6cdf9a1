"""A trained model on disk: model.safetensors for the weights, model.json for what they are."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file

from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.spec import ModelSpec
from crossweave.errors import TableError


def load_model(folder: Path) -> AlignmentModel:
    """Build a model from its folder, ready for inference; raises TableError where weights and spec disagree."""
    record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return load_weights(ModelSpec.from_json(record["spec"]), folder)


def load_weights(spec: ModelSpec, folder: Path) -> AlignmentModel:
    """Build a model of a known architecture from a folder's weights, ready for inference; raises TableError."""
    model = AlignmentModel(spec)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (RuntimeError, OSError) as error:
        raise TableError(
            f"the weights in {folder} do not fit model.json: {str(error).splitlines()[0]}", "train again"
        ) from error
    return model.eval()
