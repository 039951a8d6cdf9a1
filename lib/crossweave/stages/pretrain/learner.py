"""Who learns: an encoder, the modalities that it encodes and its steps, and whether they fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossweave.alignment import find
from crossweave.config import Settings
from crossweave.config.pretraining import PretrainStep
from crossweave.encoders import make_encoder
from crossweave.encoders.neural import TrainableEncoder
from crossweave.errors import SettingsError
from crossweave.pretraining.objectives import OBJECTIVES
from crossweave.stages.pretrain.aims import aim_of, in_order, leans_on
from crossweave.storage.records import digest

CODE_VERSION = 2


@dataclass(frozen=True)
class Learner:
    """An encoder that learns: its name, the modalities that it encodes, the steps, and who learns before it."""

    name: str
    modalities: tuple[str, ...]
    steps: tuple[PretrainStep, ...]
    before: tuple[Learner, ...] = ()  # whose vectors it learns from

    @property
    def reads_histories(self) -> bool:
        """Whether any step learns from what users took, or from an encoder that did."""
        return any(map(reads_histories, self.steps)) or any(other.reads_histories for other in self.before)

    def encoders(
        self, settings: Settings, places: Mapping[str, Path] | None = None, **changed: Any
    ) -> dict[str, TrainableEncoder]:
        """Build the encoder of each modality, with some settings changed; raises SettingsError where it cannot learn.

        `places`: where its files lie, if not where its settings say. No weights are loaded, but looked at: a directory
        with pickled ones alone is refused.
        """
        spec, made = settings.encoders[self.name], {}
        for name in self.modalities:
            kind = settings.modalities[name].kind
            encoder = make_encoder(kind, spec.type, {**spec.own, **changed}, f"encoders.{self.name}", places)
            assert isinstance(encoder, TrainableEncoder)  # see `check`
            made[name] = encoder
        return made

    def begun(self, settings: Settings) -> str:
        """Return the fingerprint of what the first step begins with: weights, words, what is read of the catalog."""
        fresh, pretrain = settings.pretrain.is_fresh(self.name), settings.pretrain
        encoders = {} if fresh else self.encoders(settings)
        return digest(
            {
                "code": CODE_VERSION,
                "encoder": settings.encoders[self.name].model_dump(mode="json") if fresh else None,
                "identities": {name: encoder.identity for name, encoder in encoders.items()},
                "modalities": {name: settings.modalities[name].model_dump(mode="json") for name in self.modalities},
                "held_out": pretrain.held_out,
                "most_contents": pretrain.most_contents,
                "tokenizer_rows": pretrain.tokenizer_rows if fresh else None,
                "seed": settings.seed,
            }
        )

    def aimed(self, settings: Settings, step: PretrainStep, learned: Mapping[str, str]) -> Any:
        """Return what says which vectors a step learns from; `learned`: what encoders have learned, by name."""
        aim = aim_of(settings, self.name, step)
        if aim is None or aim.encoder == self.name:
            return None
        partner = None if aim.partner is None else settings.modalities[aim.partner].model_dump(mode="json")
        if aim.encoder in learned:
            return [partner, learned[aim.encoder]]
        return [partner, {n: encoder.identity for n, encoder in aim.encoders(settings, self.modalities).items()}]

    def asked(self, settings: Settings, asked: Mapping[str, str]) -> str:
        """Return the fingerprint of that and the steps: all that the settings ask for; `asked`: of those before it."""
        # What was learned from pairs that another split holds out must not be kept under it.
        split = settings.split.model_dump(mode="json") if self.reads_histories else None
        aims = [self.aimed(settings, step, asked) for step in self.steps]
        return digest([self.begun(settings), [step.model_dump(mode="json") for step in self.steps], split, aims])


def learners_of(settings: Settings) -> dict[str, Learner]:
    """Return the encoders that learn, each after those that it learns from.

    Raises SettingsError where there is no such encoder, nothing that it encodes, or no order to learn in.
    """
    for name in settings.pretrain.tasks:
        if name not in settings.encoders:
            known = ", ".join(sorted(settings.encoders)) or "none"
            raise SettingsError(f"pretrain.tasks names {name}, which `encoders` does not define ({known})")
    found: dict[str, Learner] = {}
    for name in in_order(settings):
        modalities = tuple(n for n, modality in settings.modalities.items() if modality.encoder == name)
        if not modalities:
            raise SettingsError(f"pretrain.tasks.{name}: no modality is encoded by it", "see modalities")
        before = tuple(found[other] for other in sorted(leans_on(settings, name)))
        found[name] = Learner(name, modalities, tuple(settings.pretrain.tasks[name]), before)
    return found


def reads_histories(step: PretrainStep) -> bool:
    """Say whether a step learns from what users took."""
    return bool(find(OBJECTIVES, "objective", step.objective).reads_histories)
