"""Whose vectors an encoder learns from: those of another modality, of a larger encoder, or of its former self."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from crossweave.alignment import find
from crossweave.config import Settings
from crossweave.config.pretraining import PretrainStep
from crossweave.encoders import encoder_class, make_encoder
from crossweave.encoders.base import Encoder
from crossweave.errors import SettingsError
from crossweave.pretraining.objectives import OBJECTIVES


@dataclass(frozen=True)
class Aim:
    """An encoder, and what it encodes: `partner` is a modality of the same items, None the content itself."""

    encoder: str
    partner: str | None

    def encoders(self, settings: Settings, modalities: tuple[str, ...], **places: Any) -> dict[str, Encoder]:
        """Build the encoder of each modality whose vectors are learned from, with its files elsewhere."""
        spec = settings.encoders[self.encoder]
        named = f"encoders.{self.encoder}"
        made = {
            name: self._exact(settings.modalities[name].kind, spec.type, spec.own, named, places)
            for name in ([self.partner] if self.partner else modalities)
        }
        for encoder in made.values():
            if encoder.learns:
                raise SettingsError(
                    f"{named} is fitted to the catalog when it is embedded, and there is nothing to learn from before",
                    "name an encoder with weights of its own",
                )
        return made

    def _exact(self, kind: str, type_: str, own: Any, named: str, places: Any) -> Encoder:
        """Build an encoder that computes in float32, whatever embed chooses: what is learned from it must not vary."""
        exact = {"precision": "float32"} if "precision" in encoder_class(kind, type_).Settings.model_fields else {}
        return make_encoder(kind, type_, {**own, **exact}, named, places)


def aim_of(settings: Settings, learner: str, step: PretrainStep) -> Aim | None:
    """Return whose vectors a step of an encoder learns from; raises SettingsError where there is no such thing."""
    kind, where = find(OBJECTIVES, "objective", step.objective), f"pretrain.tasks.{learner}: objective {step.objective}"
    own: Any = kind.check(step.own, where)
    if step.objective == "paired":
        other = settings.modalities.get(own.modality)
        if other is None or other.encoder == learner:
            known = ", ".join(sorted(n for n, m in settings.modalities.items() if m.encoder != learner)) or "none"
            raise SettingsError(f"{where}: there is no other modality {own.modality!r}", f"those there are: {known}")
        return Aim(other.encoder, own.modality)
    if step.objective == "distilled":
        if own.teacher is None and step.student is None:
            raise SettingsError(f"{where} needs a student or a teacher", "give student.layers, or own.teacher")
        if own.teacher is not None and (own.teacher == learner or own.teacher not in settings.encoders):
            known = ", ".join(sorted(settings.encoders.keys() - {learner})) or "none"
            raise SettingsError(f"{where}: there is no other encoder {own.teacher!r}", f"those there are: {known}")
        return Aim(own.teacher or learner, None)
    return None


def leans_on(settings: Settings, learner: str) -> set[str]:
    """Name the other encoders that learn themselves, and whose vectors an encoder learns from."""
    aims = (aim_of(settings, learner, step) for step in settings.pretrain.tasks[learner])
    return {aim.encoder for aim in aims if aim is not None and aim.encoder in settings.pretrain.tasks} - {learner}


def in_order(settings: Settings) -> list[str]:
    """Name the encoders that learn, each after those that it learns from; raises SettingsError where none can begin."""
    graph = {name: leans_on(settings, name) for name in sorted(settings.pretrain.tasks)}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise SettingsError(f"pretrain.tasks learn from each other in a circle: {circle}", "let one begin") from error
