"""Pretrain: encoders learn the catalog before they encode it, and keep what they learned for some weeks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from crossweave.artifacts.learned import LEARNED
from crossweave.artifacts.sealed import open_sealed
from crossweave.config import Settings
from crossweave.runtime.record import Ledger, PlanLine, StageRecord
from crossweave.runtime.stage import Basis, Stage, StageContext
from crossweave.stages.pretrain.checks import check_learner
from crossweave.stages.pretrain.learner import Learner, learners_of
from crossweave.stages.pretrain.learning import Learned, learn, tables_read
from crossweave.stages.pretrain.standing import added, asked_for, fair, judged, why_due
from crossweave.tables.receipt_details import Attempt, Evaluated, Pretrained
from crossweave.tables.receipts import Receipt

ONLY_FORWARD = ("leave_last_out", "global_time", "none")
"""Splits under which what was train stays train while interactions come in the order of their times."""


@dataclass(frozen=True)
class PretrainBasis(Basis):
    """The catalog, the encoders that learn, and what became of what they learned before."""

    ingest: Receipt[Any]
    history: str  # identity of the table
    learners: dict[str, Learner]
    asked: dict[str, str]  # encoder -> fingerprint of what the settings ask for
    known: Pretrained
    due: dict[str, str]  # encoder -> why it is to learn tonight


class Pretrain(Stage[PretrainBasis]):
    """Lets every encoder of `pretrain.tasks` learn that has not done so, or long ago, or before the data drifted.

    Writes folders `learned/FINGERPRINT`, which embed takes. What the gate refused gives way to what was used before.
    """

    name = "pretrain"
    current = "what the encoders have learned is kept"

    def check(self, settings: Settings) -> None:
        """Look for every encoder, objective and setting, and at the files that the encoders begin with."""
        for learner in learners_of(settings).values():
            check_learner(learner, settings)

    def basis(self, context: StageContext) -> PretrainBasis:
        """Ask what is known of every encoder, and what the last evaluation said."""
        settings, ingest = context.settings, context.receipts.required("ingest")
        last, evaluate = context.receipts.latest(self.name), context.receipts.latest("evaluate")
        evaluated: Evaluated | None = evaluate.details if evaluate is not None else None
        learners = learners_of(settings)
        asked = dict[str, str]()
        for name, learner in learners.items():
            asked[name] = learner.asked(settings, asked)
        known = asked_for(last.details if last is not None else Pretrained(), asked)
        if evaluated is not None:
            known = judged(known, bool(evaluated.refused), _vectors_judged(context, evaluated))
        history = context.tables.identities({"history": ingest.writes["history"]})["history"]
        said = settings.pretrain, evaluated, context.date, history
        due = {name: why_due(name, known, *said) for name in learners}
        known = fair(known, history)
        for name, used in known.used.items():
            if open_sealed(LEARNED, LEARNED.place(context.workspace, used), used) is None:
                due[name] = "what it had learned is gone"
        for name, learner in learners.items():
            anew = [other.name for other in learner.before if due[other.name]]
            if anew and not due[name]:
                due[name] = f"{anew[0]}, whose vectors it learns from, learns"
        histories = any(learner.reads_histories for learner in learners.values())
        reads = {name: ingest.writes[name] for name in tables_read(histories)}
        facts = {"asked": asked, "reads": context.tables.identities(reads), "ranks": settings.train.ranks}
        due = {name: why for name, why in due.items() if why}
        return PretrainBasis(reads, facts, ingest, history, learners, asked, known, due)

    def made(self, context: StageContext, basis: PretrainBasis, last: Receipt[Any] | None) -> Receipt[Any] | None:
        """Find everything learned; what the gate said meanwhile is noted."""
        return None if last is None or basis.due else replace(last, details=basis.known)

    def run(
        self, context: StageContext, basis: PretrainBasis, last: Receipt[Any] | None, record: StageRecord
    ) -> Receipt[Pretrained]:
        """Let those learn that are due."""
        known = basis.known
        for name, why in basis.due.items():
            learner = basis.learners[name]
            learned = learn(context, learner, basis.ingest, known.used)
            fingerprint = learned.encoder.sealed.fingerprint if learned.better else ""
            moves = learner.reads_histories and context.settings.split.method not in ONLY_FORWARD
            attempt = Attempt(basis.asked[name], context.date.isoformat(), context.run_id, fingerprint)
            known = added(known, name, replace(attempt, history=basis.history if moves else ""))
            _tell(record, name, learned)
            record.notes.append(f"{name} learned because {why}")
        return basis.receipt(context, record, known)


PRETRAIN = Pretrain()


def _vectors_judged(context: StageContext, evaluated: Evaluated) -> set[str]:
    """Return the learned encoders whose vectors the last judged lists were made with; none where others came since."""
    embed, tensors, score = (context.receipts.latest(stage) for stage in ("embed", "tensors", "score"))
    if embed is None or tensors is None or score is None or evaluated.judged != score.run_id:
        return set()
    return {feature.learned for feature in embed.details.values() if feature.table in tensors.reads} - {""}


def plan_pretrain(context: StageContext) -> tuple[PlanLine, set[str]]:
    """Say which encoders would learn, and why."""
    tasks = dict.fromkeys(context.settings.pretrain.tasks, "the catalog is new")
    due = PRETRAIN.basis(context).due if context.receipts.latest("ingest") is not None else tasks
    what = "; ".join(f"{name}: {why}" for name, why in due.items()) or PRETRAIN.current
    return PlanLine(PRETRAIN.name, bool(due), what), set(due)


def _tell(record: StageRecord, name: str, learned: Learned) -> None:
    lines = []
    for number, facts in enumerate(learned.facts):
        step, outcome = f"{name}.{number + 1}", facts["outcome"]
        for what, read, kept in (("contents", "read", "contents"), ("users", "users", "taken")):
            if facts[read]:
                ledger = Ledger(rows_in=facts[read], rows_out=facts[kept], skipped=facts[read] - facts[kept])
                record.ledgers[f"{step}.{what}"] = ledger
        figures = ("first_loss", "best_loss", "best_epoch", "epochs", "steps", "resumed_from", "learns", "weights")
        record.metrics |= {f"{step}.{figure}": outcome[figure] for figure in figures}
        record.curves |= {f"{step}.{curve}": points for curve, points in outcome["curves"].items()}
        lines.append(_line(name, facts, outcome))
    if not learned.better:
        lines.append(f"{name}: no held-out loss has fallen: what was there stays in use")
    record.note = "\n  ".join(filter(None, [record.note, *lines]))


def _line(name: str, facts: Mapping[str, Any], outcome: Mapping[str, Any]) -> str:
    return (
        f"{name} {facts['objective']}: held-out loss {outcome['first_loss']:.4f} → {outcome['best_loss']:.4f}"
        f" at epoch {outcome['best_epoch']} of {outcome['epochs']}; {facts['method']},"
        f" {outcome['learns'] / outcome['weights']:.2%} of {outcome['weights']:,} weights learned"
    )
