"""Lets one encoder learn the catalog, step by step; every step leaves an artifact, found again by its fingerprint."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from crossweave.artifacts.learned import ADAPTER, LEARNED, MODEL, LearnedEncoder
from crossweave.artifacts.sealed import Sealed, building, open_sealed, publish
from crossweave.config.pretraining import FreshText, FreshVae
from crossweave.encoders.worker import Limits
from crossweave.pretraining.fresh import make_fresh_text, make_fresh_vae
from crossweave.pretraining.loop import WEIGHTS, PretrainOutcome, save_best
from crossweave.pretraining.plan import PretrainPlan
from crossweave.pretraining.rank import pretrain
from crossweave.runtime.rank_progress import followed
from crossweave.runtime.stage import StageContext
from crossweave.stages.pretrain.aims import Aim, aim_of
from crossweave.stages.pretrain.corpus import Aiming, CorpusWriter, Keeping, Wanted
from crossweave.stages.pretrain.learner import Learner, reads_histories
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


def learn(context: StageContext, learner: Learner, ingest: Receipt[Ingested], used: dict[str, str]) -> Learned:
    """Take the steps that are not there yet: each is found again by all that led to it, and by nothing else.

    `used`: the artifacts of encoders that have learned before, by name.
    """
    settings = context.settings
    begun, ranks = learner.begun(settings), settings.train.ranks
    base, found = None, []
    for number in range(len(learner.steps)):
        steps = learner.steps[: number + 1]
        histories = any(reads_histories(step) for step in steps)
        reads = {name: ingest.writes[name] for name in tables_read(histories)}
        facts = {"begun": begun, "ranks": ranks, "reads": context.tables.identities(reads)}
        facts["split"] = settings.split.model_dump(mode="json") if histories else None
        facts["aims"] = [learner.aimed(settings, step, used) for step in steps]
        fingerprint = digest({**facts, "steps": [step.model_dump(mode="json") for step in steps]})
        place = LEARNED.place(context.workspace, fingerprint)
        sealed = open_sealed(LEARNED, place, fingerprint)
        if sealed is None:
            sealed = _Step(context, learner, ingest, number, fingerprint, base, used).take(place)
        base = LearnedEncoder(sealed)
        found.append(sealed.facts)
    assert base is not None
    first = learner.steps[0]
    # A student is used whatever its loss: the larger encoder is not what was asked for.
    chosen = first.fresh is not None or any(step.student is not None for step in learner.steps)
    return Learned(base, chosen or any(each["outcome"]["best_epoch"] for each in found), found)


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
        used: dict[str, str],
    ) -> None:
        self.context, self.settings, self.learner = context, context.settings, learner
        self.step, self.fingerprint, self.used = learner.steps[number], fingerprint, used
        self.label = f"{learner.name}-{number + 1}-{self.step.objective}"
        self.folder = context.workspace / "training" / f"learned-{fingerprint[:16]}"
        self.writer = CorpusWriter(context, ingest, learner.modalities)
        self.base = base if self.step.fresh is None else self._fresh(self.step.fresh)

    def take(self, place: Location) -> Sealed:
        """Write the corpus, let the ranks learn, and publish the encoder with its best weights."""
        settings, step, context, embed = self.settings, self.step, self.context, self.settings.embed
        changed = {} if step.max_tokens is None else {"max_tokens": step.max_tokens}
        encoders = self.learner.encoders(settings, _places(self.base), **changed)
        limits = Limits(embed.isolate_decoders, embed.item_seconds, embed.item_megabytes)
        kept = {name: Keeping(encoder, self.base, limits) for name, encoder in encoders.items()}
        aim = aim_of(settings, self.learner.name, step)
        aimed = self._aimed(aim, limits) if aim is not None else {}
        wanted = Wanted(kept, aimed, aim.partner if aim else None, reads_histories(step))
        corpus = self.writer.write(self.folder / CORPUS, self.fingerprint, wanted)
        encoder = next(iter(encoders.values()))
        train = settings.train
        plan = PretrainPlan(
            task=step,
            encoder=encoder,
            files=self.base,
            folder=self.folder,
            progress=context.place / f"pretrain-{self.label}.jsonl",
            threads=train.threads,
            seed=settings.seed,
            corpus=corpus,
            device=train.device,
            keep_checkpoints=train.keep_checkpoints,
            checkpoint_minutes=train.checkpoint_minutes,
            width=next(iter(aimed.values())).encoder.dim if aimed else 0,
        )
        outcome = self._run(plan)
        with building(place) as draft:
            facts = {
                "encoder": self.learner.name,
                "objective": step.objective,
                "method": step.tune.method,
                "outcome": asdict(outcome),
                "read": corpus.contents,
                "contents": corpus.rows("contents"),
                "users": corpus.users,
                "taken": corpus.rows("taken"),
                "places": self._save(plan, draft),
            }
            sealed = publish(LEARNED, draft, place, self.fingerprint, facts)
        for done in (CHECKPOINTS, WEIGHTS, CORPUS, FRESH):  # TensorBoard's scalars stay
            (self.folder / done).remove()
        return sealed

    def _aimed(self, aim: Aim, limits: Limits) -> dict[str, Aiming]:
        """Return who makes the vectors that are learned from: another encoder, or this one as it is now."""
        files = self.base
        if aim.encoder != self.learner.name:
            learned = self.used.get(aim.encoder)
            files = None if learned is None else LearnedEncoder.open(self.context.workspace, learned)
        made = aim.encoders(self.settings, self.learner.modalities, **_places(files))
        return {name: Aiming(encoder, files, limits, self.settings.embed.device) for name, encoder in made.items()}

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

    def _fresh(self, settings: FreshText | FreshVae) -> LearnedEncoder:
        """Make the untrained model, once a pretraining: every rank begins with the same weights and words."""
        place = self.folder / FRESH
        sealed = open_sealed(LEARNED, place, self.fingerprint)
        if sealed is None:
            with building(place) as draft:
                if isinstance(settings, FreshVae):
                    size = make_fresh_vae(settings, draft / MODEL, self.settings.seed)
                else:
                    texts = self.writer.sample(self.settings.pretrain.tokenizer_rows)
                    size = make_fresh_text(settings, texts, draft / MODEL, self.settings.seed)
                facts = {"size": size, "places": {"path": MODEL}}
                sealed = publish(LEARNED, draft, place, self.fingerprint, facts)
        return LearnedEncoder(sealed)

    def _save(self, plan: PretrainPlan, draft: Path) -> dict[str, str]:
        """Put the encoder into `draft`, whole or as an adapter; returns which setting names what of it."""
        with tempfile.TemporaryDirectory(prefix="crossweave-") as scratch:
            weights = Path(scratch) / WEIGHTS
            (plan.folder / WEIGHTS).download(weights)
            save_best(plan, weights, draft / MODEL, draft / ADAPTER)
        setting, name = plan.encoder.place
        named = {setting: f"{MODEL}/{name}".rstrip("/"), "adapter": ADAPTER}
        return {setting: place for setting, place in named.items() if (draft / place).exists()}


def _places(files: LearnedEncoder | None) -> dict[str, Path]:
    return {} if files is None else files.places()
