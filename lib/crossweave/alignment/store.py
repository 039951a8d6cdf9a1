"""A trained model's weights on disk, as safetensors."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.spec import ModelSpec

WEIGHTS = "model.safetensors"


def load_weights(spec: ModelSpec, path: Path) -> AlignmentModel:
    """Build a model of a known architecture from a file of weights, ready for inference; ValueError for unfit ones."""
    model = AlignmentModel(spec)
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"the weights {path} do not fit their spec: {str(error).splitlines()[0]}") from error
    return model.eval()
