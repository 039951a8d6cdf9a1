"""Lets one encoder learn the catalog, step by step; every step leaves an artifact, found again by its fingerprint."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from crossweave.alignment import find
from crossweave.artifacts.learned import ADAPTER, LEARNED, MODEL, LearnedEncoder
from crossweave.artifacts.sealed import Sealed, building, open_sealed, publish
from crossweave.config import Settings
from crossweave.config.pretraining import FreshModel, PretrainStep
from crossweave.encoders import make_encoder
from crossweave.encoders.transformer_text import TransformerEncoder
from crossweave.errors import SettingsError
from crossweave.pretraining.fresh import make_fresh
from crossweave.pretraining.loop import WEIGHTS, PretrainOutcome, save_best
from crossweave.pretraining.objectives import OBJECTIVES
from crossweave.pretraining.objectives.base import Vocabulary
from crossweave.pretraining.plan import PretrainPlan
from crossweave.pretraining.rank import pretrain
from crossweave.runtime.rank_progress import followed
from crossweave.runtime.stage import StageContext
from crossweave.stages.pretrain.corpus import CorpusWriter, Tokenising
from crossweave.storage.location import Location
from crossweave.storage.records import digest
from crossweave.tables.receipt_details import Ingested
from crossweave.tables.receipts import Receipt
from crossweave.training.checkpoint import CHECKPOINTS
from crossweave.training.collective import run_ranks
from crossweave.training.planning import rank_limits

CODE_VERSION = 1
FRESH, CORPUS = "fresh", "corpus"
"""What lies beside the checkpoints until the encoder has learned."""


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
        return any(find(OBJECTIVES, "objective", step.objective).reads_histories for step in self.steps)

    def encoders(self, settings: Settings, files: Mapping[str, Path] | None = None) -> dict[str, TransformerEncoder]:
        """Build the encoder of each modality, its files where they are named; raises SettingsError if it cannot learn.

        No weights are loaded, but looked at: a directory with pickled ones alone is refused.
        """
        spec = settings.encoders[self.name]
        made = {}
        for name in self.modalities:
            own = {**spec.own, **(files or {})}
            encoder = make_encoder(settings.modalities[name].kind, spec.type, own, f"encoders.{self.name}")
            if not isinstance(encoder, TransformerEncoder):
                raise SettingsError(
                    f"pretrain.tasks.{self.name}: an encoder of type {spec.type} for {settings.modalities[name].kind} "
                    "cannot learn the catalog",
                    "those that can are of type transformer, for text and tags",
                )
            made[name] = encoder
        return made

    def check(self, settings: Settings) -> None:
        """Raise SettingsError for steps that could not be taken."""
        where = f"pretrain.tasks.{self.name}"
        spec, fresh = settings.encoders[self.name], settings.pretrain.is_fresh(self.name)
        if spec.own.get("adapter") is not None:
            raise SettingsError(f"{where}: the encoder has an adapter already", "merge it into the weights first")
        if fresh and "path" in spec.own:
            raise SettingsError(f"{where} begins with a fresh model, and encoders.{self.name} has a path", "give one")
        for step in self.steps:
            kind = find(OBJECTIVES, "objective", step.objective)
            kind.check(step.own, f"{where}: objective {step.objective}")
        if not fresh:
            for encoder in self.encoders(settings).values():
                vocabulary = vocabulary_of(encoder)
                _fits([step.objective for step in self.steps], vocabulary, encoder.layout.is_decoder, where)
        elif self.steps[0].fresh is not None:
            decoder = self.steps[0].fresh.family == "gpt2"
            known = Vocabulary(0, 0, None if decoder else 0, frozenset())
            _fits([step.objective for step in self.steps], known, decoder, where)

    def asked(self, settings: Settings) -> str:
        """Return the fingerprint of what the settings ask for, and of the weights that it begins with."""
        fresh = settings.pretrain.is_fresh(self.name)
        begun = settings.encoders[self.name].model_dump(mode="json") if fresh else None
        modalities = {n: settings.modalities[n].model_dump(mode="json") for n in self.modalities}
        return digest(
            {
                "code": CODE_VERSION,
                "steps": [step.model_dump(mode="json") for step in self.steps],
                "encoder": begun or {n: encoder.identity for n, encoder in self.encoders(settings).items()},
                "modalities": modalities,
                "held_out": settings.pretrain.held_out,
                "tokenizer_rows": settings.pretrain.tokenizer_rows if fresh else None,
                "seed": settings.seed,
            }
        )


def vocabulary_of(encoder: TransformerEncoder) -> Vocabulary:
    """Return what an encoder's tokenizer says of its words."""
    tokenizer = encoder.tokenizer
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return Vocabulary(len(tokenizer), padding or 0, tokenizer.mask_token_id, frozenset(tokenizer.all_special_ids))


def _fits(objectives: list[str], vocabulary: Vocabulary, decoder: bool, where: str) -> None:
    if "masked" in objectives and (vocabulary.mask is None or decoder):
        raise SettingsError(
            f"{where}: objective masked hides words, and this is a decoder or knows no mask", "take causal"
        )
    if "causal" in objectives and not decoder:
        raise SettingsError(f"{where}: objective causal needs a decoder, and this model sees all words", "take masked")


@dataclass(frozen=True)
class Learned:
    """What the steps came to."""

    encoder: LearnedEncoder  # of the last step
    better: bool  # than what it began with
    facts: list[Mapping[str, Any]]  # of every step's artifact


def learn(context: StageContext, learner: Learner, ingest: Receipt[Ingested], facts: Mapping[str, Any]) -> Learned:
    """Take the steps that are not there yet; `facts` decide the result beside the steps."""
    base, found = None, []
    steps = [step.model_dump(mode="json") for step in learner.steps]
    for number in range(len(steps)):
        fingerprint = digest({**facts, "steps": steps[: number + 1]})
        place = LEARNED.place(context.workspace, fingerprint)
        sealed = open_sealed(LEARNED, place, fingerprint)
        if sealed is None:
            sealed = _Step(context, learner, ingest, number, fingerprint, base).take(place)
        base = LearnedEncoder(sealed)
        found.append(sealed.facts)
    assert base is not None
    fresh = learner.steps[0].fresh is not None
    return Learned(base, fresh or any(each["outcome"]["best_epoch"] for each in found), found)


class _Step:
    """One step of one encoder."""

    def __init__(
        self,
        context: StageContext,
        learner: Learner,
        ingest: Receipt[Ingested],
        number: int,
        fingerprint: str,
        base: LearnedEncoder | None,
    ) -> None:
        self.context, self.settings, self.learner = context, context.settings, learner
        self.step, self.fingerprint = learner.steps[number], fingerprint
        self.label = f"{learner.name}-{number + 1}-{self.step.objective}"
        self.folder = context.workspace / "training" / f"learned-{fingerprint[:16]}"
        self.writer = CorpusWriter(context, ingest, learner.modalities)
        self.base = base if self.step.fresh is None else self._fresh(self.step.fresh)

    def take(self, place: Location) -> Sealed:
        """Write the corpus, let the ranks learn, and publish the encoder with its best weights."""
        settings, step, context = self.settings, self.step, self.context
        files = self.base.places() if self.base is not None else None
        encoders = self.learner.encoders(settings, files)
        histories = find(OBJECTIVES, "objective", step.objective).reads_histories
        work = {name: Tokenising(encoder, self.base) for name, encoder in encoders.items()}
        corpus = self.writer.write(self.folder / CORPUS, self.fingerprint, work, histories)
        encoder = next(iter(encoders.values()))
        train = settings.train
        plan = PretrainPlan(
            task=step,
            base=self.base or encoder.settings.path,
            vocabulary=vocabulary_of(encoder),
            pooling=encoder.layout.pooling,
            folder=self.folder,
            progress=context.place / f"pretrain-{self.label}.jsonl",
            threads=train.threads,
            seed=settings.seed,
            corpus=corpus,
            device=train.device,
            keep_checkpoints=train.keep_checkpoints,
            checkpoint_minutes=train.checkpoint_minutes,
        )
        outcome = self._run(plan)
        with building(place) as draft:
            self._save(plan, encoder, draft)
            facts = {
                "encoder": self.learner.name,
                "objective": step.objective,
                "method": step.tune.method,
                "outcome": asdict(outcome),
                "contents": corpus.contents,
                "texts": corpus.rows("texts"),
                "users": corpus.users,
                "taken": corpus.rows("taken"),
            }
            sealed = publish(LEARNED, draft, place, self.fingerprint, facts)
        for done in (CHECKPOINTS, WEIGHTS, CORPUS, FRESH):  # TensorBoard's scalars stay
            (self.folder / done).remove()
        return sealed

    def _run(self, plan: PretrainPlan) -> PretrainOutcome:
        context, ranks = self.context, self.settings.train.ranks
        master = str(context.spark.sparkContext.master)
        limits = replace(rank_limits(self.settings, master), min_ranks=None)
        progress = context.progress(f"pretrain {self.label}", plan.task.max_epochs, "epochs")
        with followed(plan.progress, progress, lambda entry: f"held-out loss {entry['held_out']:.4f}"):
            return run_ranks(
                pretrain,
                plan,
                ranks,
                limits,
                context.folder / f"ranks-{self.label}",
                master.startswith("local"),
                context.place / f"ranks-{self.label}",
            )

    def _fresh(self, settings: FreshModel) -> LearnedEncoder:
        """Make the untrained model, once a pretraining: every rank begins with the same weights and words."""
        place = self.folder / FRESH
        sealed = open_sealed(LEARNED, place, self.fingerprint)
        if sealed is None:
            with building(place) as draft:
                texts = self.writer.sample(self.settings.pretrain.tokenizer_rows)
                words = make_fresh(settings, texts, draft / MODEL, self.settings.seed)
                sealed = publish(LEARNED, draft, place, self.fingerprint, {"words": words})
        return LearnedEncoder(sealed)

    def _save(self, plan: PretrainPlan, encoder: TransformerEncoder, draft: Path) -> None:
        """Put the encoder into `draft`: a whole model directory, or an adapter, beside its model if that is learned."""
        with tempfile.TemporaryDirectory(prefix="crossweave-") as scratch:
            weights = Path(scratch) / WEIGHTS
            (plan.folder / WEIGHTS).download(weights)
            save_best(plan, weights, draft / MODEL, draft / ADAPTER)
        beside = (draft / ADAPTER).is_dir()
        if beside and self.base is None:
            return
        for name, path in encoder.layout.files:
            target = draft / MODEL / name
            if beside or not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
