"""Whether an encoder can take its steps: asked before anything runs, of settings, files and the shapes of networks."""

from __future__ import annotations

from typing import Any

from crossweave.alignment import find
from crossweave.config import Settings
from crossweave.config.pretraining import FreshText, FreshVae, PretrainStep
from crossweave.encoders import encoder_class
from crossweave.encoders.base import Encoder
from crossweave.encoders.neural import TrainableEncoder
from crossweave.encoders.transformer_image import ImageTransformerEncoder
from crossweave.encoders.transformer_text import TransformerEncoder
from crossweave.encoders.vae_image import VaeEncoder
from crossweave.errors import SettingsError
from crossweave.pretraining.objectives import OBJECTIVES
from crossweave.pretraining.objectives.base import vocabulary_of
from crossweave.pretraining.student import become_student
from crossweave.pretraining.tuning import apply_tuning, stays_beside
from crossweave.stages.pretrain.aims import aim_of
from crossweave.stages.pretrain.learner import Learner


def check_learner(learner: Learner, settings: Settings) -> None:
    """Raise SettingsError for steps that could not be taken; no weights are loaded."""
    where, spec = f"pretrain.tasks.{learner.name}", settings.encoders[learner.name]
    fresh = learner.steps[0].fresh
    if spec.own.get("adapter") is not None:
        raise SettingsError(f"{where}: the encoder has an adapter already", "merge it into the weights first")
    if fresh is not None and "path" in spec.own:
        raise SettingsError(f"{where} begins with a fresh model, and encoders.{learner.name} has a path", "give one")
    for kind in sorted({settings.modalities[name].kind for name in learner.modalities}):
        _fits(learner.steps, encoder_class(kind, spec.type), f"{where}: an encoder of type {spec.type} for {kind}")
    for step in learner.steps:
        changed: dict[str, Any] = {} if step.max_tokens is None else {"max_tokens": step.max_tokens}
        encoders = learner.encoders(settings, **_nowhere(settings, learner.name), **changed)
        for encoder in encoders.values():
            if fresh is None:
                _look(encoder)
                _try(step, encoder, where)
            if isinstance(encoder, TransformerEncoder):
                _reads(step, encoder, fresh, where)
        _aims(learner, step, next(iter(encoders.values())), settings, where)


def _fits(steps: tuple[PretrainStep, ...], learner: type[Encoder], who: str) -> None:
    """Raise SettingsError where encoders of this type cannot take the steps."""
    text = issubclass(learner, TransformerEncoder)
    if not issubclass(learner, TrainableEncoder):
        raise SettingsError(
            f"{who} cannot learn the catalog", "those that can are of type transformer, torchvision and vae"
        )
    fresh = steps[0].fresh
    if fresh is not None and not (issubclass(learner, VaeEncoder) if fresh.family == "vae" else text):
        raise SettingsError(f"{who} cannot begin with a fresh {fresh.family}", "families are bert, gpt2 and vae")
    for step in steps:
        if not issubclass(learner, find(OBJECTIVES, "objective", step.objective).learners):
            raise SettingsError(
                f"{who} cannot learn by objective {step.objective}", "docs/pretraining.md says which can"
            )
        if step.max_tokens is not None and not text:
            raise SettingsError(f"{who}: max_tokens is for texts", "leave it out")
        if step.gradient_checkpointing and learner.name != TransformerEncoder.name:
            raise SettingsError(f"{who}: gradient_checkpointing is for transformers", "leave it out")
        if stays_beside(step.tune) and not text:
            raise SettingsError(f"{who}: an adapter beside the weights is for texts", "set tune.merge: true, or lora")


def _nowhere(settings: Settings, encoder: str) -> dict[str, Any]:
    """Return the place of files that are not there yet, of an encoder that begins with nothing."""
    return {"path": "."} if settings.pretrain.is_fresh(encoder) else {}


def _look(encoder: Encoder) -> None:
    """Raise SettingsError where an encoder's files are missing or of another kind; nothing is hashed."""
    _ = encoder.dim
    if isinstance(encoder, TrainableEncoder):
        _ = encoder.files


def _try(step: PretrainStep, encoder: TrainableEncoder, where: str) -> None:
    """Raise SettingsError where the network has no place for what a step changes; tried on its shapes alone."""
    smaller = step.student is not None and (step.student.layers is not None or step.student.neurons < 1.0)
    if smaller and isinstance(encoder, ImageTransformerEncoder) and encoder.beside_text:
        raise SettingsError(
            f"{where}: a student of the picture side of two cannot be saved beside its text side",
            "define a smaller encoder, and let it learn from this one: objective distilled, own.teacher",
        )
    shapes = encoder.skeleton()
    if step.student is not None:
        become_student(shapes, step.student)
    apply_tuning(shapes, step.tune, total_steps=1)


def _reads(step: PretrainStep, encoder: TransformerEncoder, fresh: FreshText | FreshVae | None, where: str) -> None:
    """Raise SettingsError where a language model cannot take a step."""
    if isinstance(fresh, FreshText):
        masks, decoder = fresh.family == "bert", fresh.family == "gpt2"
        if (step.max_tokens or 0) > fresh.max_tokens:
            raise SettingsError(f"{where}: max_tokens {step.max_tokens} of a model of {fresh.max_tokens}")
    else:
        masks, decoder = vocabulary_of(encoder).mask is not None, encoder.layout.is_decoder
    if step.objective == "masked" and (decoder or not masks):
        raise SettingsError(
            f"{where}: objective masked hides words, and this is a decoder or knows no mask", "take causal"
        )
    if step.objective == "causal" and not decoder:
        raise SettingsError(f"{where}: objective causal needs a decoder, and this model sees all words", "take masked")
    if step.tune.method == "prefix" and not decoder:
        raise SettingsError(f"{where}: tune.method prefix needs a decoder, and this model is none", "take lora")


def _aims(learner: Learner, step: PretrainStep, encoder: Encoder, settings: Settings, where: str) -> None:
    """Raise SettingsError where there are no vectors to learn from."""
    aim = aim_of(settings, learner.name, step)
    if aim is None:
        return
    others = aim.encoders(settings, learner.modalities, **_nowhere(settings, aim.encoder))
    if settings.pretrain.is_fresh(aim.encoder):
        spec, mine = settings.encoders[aim.encoder], aim.encoder
        begins = {encoder_class(m.kind, spec.type) for m in settings.modalities.values() if m.encoder == mine}
        if not {type(other) for other in others.values()} <= begins:
            raise SettingsError(f"{where}: encoder {mine} begins with nothing, for contents of another kind")
        return
    for other in others.values():
        _look(other)
        blind = step.objective == "distilled" and step.own.get("relations") == 0
        if blind and learner.steps[0].fresh is None and other.dim != encoder.dim:
            raise SettingsError(f"{where}: vectors of another length teach by relations alone", "raise own.relations")
