"""Who learns: an encoder, the modalities that it encodes and its steps, and whether they fit each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crossweave.alignment import find
from crossweave.config import Settings
from crossweave.config.pretraining import PretrainStep
from crossweave.encoders import make_encoder
from crossweave.encoders.transformer_text import TransformerEncoder
from crossweave.errors import SettingsError
from crossweave.pretraining.objectives import OBJECTIVES
from crossweave.pretraining.objectives.base import Vocabulary
from crossweave.storage.records import digest

CODE_VERSION = 1


@dataclass(frozen=True)
class Learner:
    """An encoder that learns: its name, the modalities that it encodes, and the steps."""

    name: str
    modalities: tuple[str, ...]
    steps: tuple[PretrainStep, ...]

    @classmethod
    def of(cls, settings: Settings, name: str) -> Learner:
        """Raise SettingsError where there is no such encoder, or nothing that it encodes."""
        if name not in settings.encoders:
            known = ", ".join(sorted(settings.encoders)) or "none"
            raise SettingsError(f"pretrain.tasks names {name}, which `encoders` does not define ({known})")
        modalities = tuple(n for n, modality in settings.modalities.items() if modality.encoder == name)
        if not modalities:
            raise SettingsError(f"pretrain.tasks.{name}: no modality is encoded by it", "see modalities")
        return cls(name, modalities, tuple(settings.pretrain.tasks[name]))

    @property
    def reads_histories(self) -> bool:
        """Whether any step learns from what users took."""
        return any(reads_histories(step) for step in self.steps)

    def encoders(self, settings: Settings, **changed: Path | str | int) -> dict[str, TransformerEncoder]:
        """Build the encoder of each modality, with some settings changed; raises SettingsError where it cannot learn.

        No weights are loaded, but looked at: a directory with pickled ones alone is refused.
        """
        spec = settings.encoders[self.name]
        made = {}
        for name in self.modalities:
            kind = settings.modalities[name].kind
            if spec.type != TransformerEncoder.name or kind not in ("text", "tags"):
                raise SettingsError(
                    f"pretrain.tasks.{self.name}: an encoder of type {spec.type} for {kind} cannot learn the catalog",
                    "those that can are of type transformer, for text and tags",
                )
            encoder = make_encoder(kind, spec.type, {**spec.own, **changed}, f"encoders.{self.name}")
            assert isinstance(encoder, TransformerEncoder)
            made[name] = encoder
        return made

    def check(self, settings: Settings) -> None:
        """Raise SettingsError for steps that could not be taken."""
        where = f"pretrain.tasks.{self.name}"
        spec, fresh = settings.encoders[self.name], self.steps[0].fresh
        if spec.own.get("adapter") is not None:
            raise SettingsError(f"{where}: the encoder has an adapter already", "merge it into the weights first")
        if fresh is not None and "path" in spec.own:
            raise SettingsError(f"{where} begins with a fresh model, and encoders.{self.name} has a path", "give one")
        for step in self.steps:
            kind = find(OBJECTIVES, "objective", step.objective)
            kind.check(step.own, f"{where}: objective {step.objective}")
            if fresh is None:
                changed = {} if step.max_tokens is None else {"max_tokens": step.max_tokens}
                for encoder in self.encoders(settings, **changed).values():
                    _fits(step, vocabulary_of(encoder).mask is not None, encoder.layout.is_decoder, where)
            else:
                self.encoders(settings, path=".")  # its settings are looked at, files there are none yet
                _fits(step, fresh.family == "bert", fresh.family == "gpt2", where)
                if (step.max_tokens or 0) > fresh.max_tokens:
                    raise SettingsError(f"{where}: max_tokens {step.max_tokens} of a model of {fresh.max_tokens}")

    def begun(self, settings: Settings) -> str:
        """Return the fingerprint of what the first step begins with: weights, words, what is read of the catalog."""
        fresh = settings.pretrain.is_fresh(self.name)
        encoders = {} if fresh else self.encoders(settings)
        return digest(
            {
                "code": CODE_VERSION,
                "encoder": settings.encoders[self.name].model_dump(mode="json") if fresh else None,
                "identities": {name: encoder.identity for name, encoder in encoders.items()},
                "modalities": {name: settings.modalities[name].model_dump(mode="json") for name in self.modalities},
                "held_out": settings.pretrain.held_out,
                "tokenizer_rows": settings.pretrain.tokenizer_rows if fresh else None,
                "seed": settings.seed,
            }
        )

    def asked(self, settings: Settings) -> str:
        """Return the fingerprint of that and the steps: all that the settings ask for."""
        # What was learned from pairs that another split holds out must not be kept under it.
        split = settings.split.model_dump(mode="json") if self.reads_histories else None
        return digest([self.begun(settings), [step.model_dump(mode="json") for step in self.steps], split])


def reads_histories(step: PretrainStep) -> bool:
    """Say whether a step learns from what users took."""
    return bool(find(OBJECTIVES, "objective", step.objective).reads_histories)


def vocabulary_of(encoder: TransformerEncoder) -> Vocabulary:
    """Return what an encoder's tokenizer says of its words."""
    tokenizer = encoder.tokenizer
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return Vocabulary(len(tokenizer), padding or 0, tokenizer.mask_token_id, frozenset(tokenizer.all_special_ids))


def _fits(step: PretrainStep, masks: bool, decoder: bool, where: str) -> None:
    """Raise SettingsError where a model, which knows a mask or is a decoder, cannot take a step."""
    if step.objective == "masked" and (decoder or not masks):
        raise SettingsError(
            f"{where}: objective masked hides words, and this is a decoder or knows no mask", "take causal"
        )
    if step.objective == "causal" and not decoder:
        raise SettingsError(f"{where}: objective causal needs a decoder, and this model sees all words", "take masked")
    if step.tune.method == "prefix" and not decoder:
        raise SettingsError(f"{where}: tune.method prefix needs a decoder, and this model is none", "take lora")
