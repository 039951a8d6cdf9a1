"""A trained model: the weights, what they are of, and the collaborative models blended in."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from crossweave.alignment import COLLABORATIVE, find
from crossweave.alignment.blend import FOLDER, Blend, Member
from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.spec import ModelSpec
from crossweave.alignment.store import WEIGHTS, load_weights
from crossweave.artifacts.sealed import Kind, Sealed, open_required
from crossweave.errors import ArtifactError
from crossweave.storage.records import Place

MODEL = Kind("model", "models", "model.json", 2, "train")


class TrainedModel:
    """A model as it was trained, opened and verified."""

    def __init__(self, sealed: Sealed) -> None:
        self.sealed, self.folder, self.facts = sealed, sealed.folder, sealed.facts
        self.spec = ModelSpec.from_json(sealed.facts["spec"])

    @classmethod
    def open(cls, folder: Place, fingerprint: str | None = None) -> Self:
        """Open and verify the model of a folder; raises ArtifactError where it is gone, damaged or another one."""
        sealed = open_required(MODEL, folder, fingerprint)
        sealed.verify()
        return cls(sealed)

    def load(self) -> AlignmentModel:
        """Return the model, ready for inference; raises ArtifactError where weights and spec disagree."""
        try:
            return load_weights(self.spec, self.sealed.path(WEIGHTS))
        except ValueError as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(str(error), MODEL.remedy(self.folder)) from error

    def blend(self) -> Blend:
        """Return the collaborative models with their weights, mapped into memory."""
        members = []
        for name, weight in self.facts[FOLDER].items():
            prefix = f"{FOLDER}/{name}/"
            arrays = [Path(file).stem for file in self.sealed.files if file.startswith(prefix)]
            kind = find(COLLABORATIVE, "collaborative model", name)
            fitted = kind.from_arrays({array: self.sealed.array(prefix + array) for array in arrays})
            members.append(Member(name, weight, fitted))
        return Blend(members)
