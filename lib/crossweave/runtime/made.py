"""What a chain of receipts made: its tensors, model and scored vectors, each opened and verified when asked for."""

from __future__ import annotations

from functools import cached_property

from crossweave.artifacts.model import MODEL, TrainedModel
from crossweave.artifacts.scored import SCORED, ScoredVectors
from crossweave.feeding.manifest import SETS, Manifest, required_manifest
from crossweave.storage.location import Location
from crossweave.storage.records import Place
from crossweave.tables.served import Chain


class Made:
    """The artifacts of a chain; ArtifactError where one is gone or is not the one that its receipt names."""

    def __init__(self, workspace: Place, chain: Chain) -> None:
        self.workspace, self.chain = Location.of(workspace), chain

    @cached_property
    def manifest(self) -> Manifest:
        """The tensor set that the model was trained on."""
        folder = self.workspace / SETS / self.chain.tensor_set
        return required_manifest(folder, self.chain.tensors.fingerprint)

    @cached_property
    def model(self) -> TrainedModel:
        """The model."""
        return TrainedModel.open(self.workspace / MODEL.below / self.chain.model, self.chain.train.fingerprint)

    @cached_property
    def vectors(self) -> ScoredVectors:
        """What scoring left."""
        return ScoredVectors.open(self.workspace / SCORED.below / self.chain.scored, self.chain.score.fingerprint)
