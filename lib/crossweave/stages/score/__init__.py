"""Score: exact top-K for every user, with seen items masked before the cut, and reasons by modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crossweave.config import Settings
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.serving import promote
from crossweave.runtime.stage import Basis, Stage, StageContext
from crossweave.scoring.reranks import build_reranks
from crossweave.stages.score.ann import check_index
from crossweave.stages.score.night import CODE_VERSION, Night, check_conditions
from crossweave.stages.score.rules import catalog_rules
from crossweave.storage.records import digest
from crossweave.tables.item_rules import check_names
from crossweave.tables.receipt_details import Scored, Tensors, Trained
from crossweave.tables.receipts import Receipt
from crossweave.tables.served import Chain

STAGE = "score"


def check_scoring(settings: Settings) -> None:
    """Refuse, before anything is trained, a re-rank step or a rule's column that there is not, and an index that the
    model will not have.

    Raises SettingsError. Scoring alone asks the trained model, which may be of other settings.
    """
    build_reranks(settings.score.rerank or {})
    check_index(settings)
    check_names(catalog_rules(settings), settings.inputs.items.attributes)


@dataclass(frozen=True)
class ScoreBasis(Basis):
    """The receipts of the tensors and the model."""

    tensors: Receipt[Tensors]
    trained: Receipt[Trained]


class Score(Stage[ScoreBasis]):
    """Ranks the candidates for every user of the users and interactions tables.

    Writes the table recommendations as a whole. A user who has seen everything gets no row and is counted. With
    score.incremental, the lists of users of whom nothing changed are carried over.
    """

    name = STAGE
    current = "this date's users are scored with this model"

    def check(self, settings: Settings) -> None:
        """Look for the re-rank steps, and whether the model will have an index."""
        check_scoring(settings)

    def check_with_spark(self, context: StageContext) -> None:
        """Look for the columns and conditions of the rules."""
        check_conditions(context)

    def basis(self, context: StageContext) -> ScoreBasis:
        """Take the last model, and the tables of ingest and tensors."""
        settings = context.settings
        build_reranks(settings.score.rerank or {})
        ingest, tensors, trained = (context.receipts.required(n) for n in ("ingest", "tensors", "train"))
        tables = ("catalog", "history", "users", "blocks")
        reads = {name: ingest.writes[name] for name in tables if name in ingest.writes or name != "blocks"}
        reads |= {name: tensors.writes[name] for name in ("item_index", "user_index")}
        facts = {
            "code": CODE_VERSION,
            "model": trained.fingerprint,
            "reads": context.tables.identities(reads),
            "settings": settings.score.model_dump(mode="json"),
            "seed": settings.seed,
            "date": context.date.isoformat(),
        }
        return ScoreBasis(reads, facts, tensors, trained)

    def run(
        self, context: StageContext, basis: ScoreBasis, last: Receipt[Any] | None, record: StageRecord
    ) -> Receipt[Scored]:
        """Run the item tower once, then rank on the workers."""
        settings = context.settings.score
        night = Night(context, basis.reads, basis.tensors, basis.trained, basis.fingerprint)
        users = night.users().cache()
        leakage = night.leakage(users)
        if "test" not in {*settings.history_splits, *settings.seen_splits}:
            leakage.refuse()
        lists = night.rank(users, last)
        record.ledgers = {"users": Ledger(lists.users, lists.served, lists.users - lists.served)}
        record.writes = lists.writes
        record.metrics = lists.metrics | leakage.metrics | night.effects(users, lists.writes["recommendations"])
        record.note = f"{lists.metrics['recommendations']:,} recommendations"
        users.unpersist()
        details = Scored(
            protocol=basis.tensors.details.protocol,
            model=basis.trained.details.folder,
            scored=night.vectors.folder.name,
            held_out_known=leakage.found,
            basis=night.basis if settings.incremental else "",
            origin=digest({name: fact for name, fact in basis.facts.items() if name != "date"}),
        )
        return basis.receipt(context, record, details)

    def settle(self, context: StageContext, basis: ScoreBasis, receipt: Receipt[Scored], record: StageRecord) -> None:
        """Serve lists that no evaluation will judge, because nothing is held out."""
        if context.settings.split.method == "none" and context.settings.evaluate.gate is None:
            promote(context, record, Chain.latest(context.workspace), "nothing is held out to judge it by", {})


SCORE = Score()
