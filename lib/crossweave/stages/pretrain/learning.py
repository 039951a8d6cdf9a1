"""Lets one encoder learn the catalog, step by step; every step leaves an artifact, found again by its fingerprint."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from crossweave.artifacts.learned import ADAPTER, LEARNED, MODEL, LearnedEncoder
from crossweave.artifacts.sealed import Sealed, building, open_sealed, publish
from crossweave.config.pretraining import FreshModel
from crossweave.encoders.transformer_text import TransformerEncoder
from crossweave.pretraining.fresh import make_fresh
from crossweave.pretraining.loop import WEIGHTS, PretrainOutcome, save_best
from crossweave.pretraining.plan import PretrainPlan
from crossweave.pretraining.rank import pretrain
from crossweave.runtime.rank_progress import followed
from crossweave.runtime.stage import StageContext
from crossweave.stages.pretrain.corpus import CorpusWriter, Tokenising
from crossweave.stages.pretrain.learner import Learner, reads_histories, vocabulary_of
from crossweave.storage.location import Location
from crossweave.storage.records import digest
from crossweave.tables.receipt_details import Ingested
from crossweave.tables.receipts import Receipt
from crossweave.training.checkpoint import CHECKPOINTS
from crossweave.training.collective import run_ranks
from crossweave.training.planning import rank_limits

FRESH, CORPUS = "fresh", "corpus"
"""What lies beside the checkpoints until the encoder has learned."""


@dataclass(frozen=True)
class Learned:
    """What the steps came to."""

    encoder: LearnedEncoder  # of the last step
    better: bool  # than what it began with
    facts: list[Mapping[str, Any]]  # of every step's artifact


def tables_read(histories: bool) -> list[str]:
    """Name the tables that a corpus is made of, with or without what users took."""
    return ["item_rows", "history", "catalog"] if histories else ["item_rows"]


def learn(context: StageContext, learner: Learner, ingest: Receipt[Ingested]) -> Learned:
    """Take the steps that are not there yet: each is found again by all that led to it, and by nothing else."""
    begun, ranks = learner.begun(context.settings), context.settings.train.ranks
    base, found = None, []
    for number in range(len(learner.steps)):
        steps = learner.steps[: number + 1]
        histories = any(reads_histories(step) for step in steps)
        reads = {name: ingest.writes[name] for name in tables_read(histories)}
        facts = {"begun": begun, "ranks": ranks, "reads": context.tables.identities(reads)}
        facts["split"] = context.settings.split.model_dump(mode="json") if histories else None
        fingerprint = digest({**facts, "steps": [step.model_dump(mode="json") for step in steps]})
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
        changed: dict[str, Any] = dict(self.base.places()) if self.base is not None else {}
        if step.max_tokens is not None:
            changed["max_tokens"] = step.max_tokens
        encoders = self.learner.encoders(settings, **changed)
        work = {name: Tokenising(encoder, self.base) for name, encoder in encoders.items()}
        corpus = self.writer.write(self.folder / CORPUS, self.fingerprint, work, reads_histories(step))
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
            if beside or not (target.exists() or name.endswith(".safetensors")):  # the weights that it began with
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
