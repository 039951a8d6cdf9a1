"""Embed: gives every content of the catalog a vector, encoding only those that have none, each once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from crossweave.artifacts.learned import LearnedEncoder
from crossweave.config import Settings
from crossweave.encoders import make_encoder
from crossweave.encoders.base import Encoder
from crossweave.errors import BudgetExceededError
from crossweave.runtime.learned import learned_encoders
from crossweave.runtime.record import PlanLine, StageRecord
from crossweave.runtime.stage import Basis, Stage, StageContext
from crossweave.stages.embed.modality import Modality
from crossweave.stages.embed.night import STAGE, Night
from crossweave.tables.encoder_states import EncoderStates
from crossweave.tables.receipt_details import Embedded
from crossweave.tables.receipts import Receipt


def build_encoders(settings: Settings, learned: Mapping[str, LearnedEncoder]) -> dict[str, Encoder]:
    """Build every modality's encoder, with what it has learned, without loading weights.

    Raises SettingsError for a bad name or setting.
    """
    places = {name: encoder.places() for name, encoder in learned.items()}
    return {
        name: make_encoder(
            modality.kind, spec.type, spec.own, f"encoders.{modality.encoder}", places.get(modality.encoder)
        )
        for name, modality in settings.modalities.items()
        for spec in [settings.encoders[modality.encoder]]
        # One that begins with nothing has no files before it has learned.
        if modality.encoder in learned or not settings.pretrain.is_fresh(modality.encoder)
    }


def _prints(encoders: Mapping[str, Encoder]) -> dict[str, str]:
    return {name: encoder.fingerprint for name, encoder in encoders.items()}


@dataclass(frozen=True)
class EmbedBasis(Basis):
    """The catalog, and the encoders as far as they are fitted and tried."""

    ingest: Receipt[Any]
    learned: dict[str, LearnedEncoder]
    encoders: dict[str, Encoder]
    states: EncoderStates
    ready: frozenset[str]  # modalities whose encoder has nothing left to learn or to choose


class Embed(Stage[EmbedBasis]):
    """Encodes what the catalog has and the feature tables lack.

    Appends to one feature table a (modality, encoder fingerprint) and to quarantine. Raises BudgetExceededError where
    more contents of a modality fail than the settings allow.
    """

    name = STAGE
    current = "0 contents to encode, no model loaded"

    def check(self, settings: Settings) -> None:
        """Build the encoders."""
        build_encoders(settings, {})

    def basis(self, context: StageContext) -> EmbedBasis:
        """Hand the encoders what they learned and chose on earlier nights."""
        ingest, learned = context.receipts.required("ingest"), learned_encoders(context.settings, context.workspace)
        encoders = build_encoders(context.settings, learned)
        states = EncoderStates(context.workspace)
        ready = frozenset(n for n, encoder in encoders.items() if states.load(n, encoder.identity).hand_to(encoder))
        reads = {"item_rows": ingest.writes["item_rows"]}
        facts = {
            "reads": context.tables.identities(reads),
            "encoders": _prints({name: encoders[name] for name in encoders if name in ready}),
            "budget": context.settings.embed.max_bad_fraction,
        }
        return EmbedBasis(reads, facts, ingest, learned, encoders, states, ready)

    def made(self, context: StageContext, basis: EmbedBasis, last: Receipt[Any] | None) -> Receipt[Any] | None:
        """Find the vectors there, unless an encoder is still to be fitted, or contents are to be tried again."""
        again = context.settings.embed.retry_failed or context.settings.embed.refit
        return None if again or len(basis.ready) < len(basis.encoders) else super().made(context, basis, last)

    def nothing_to_do(
        self, context: StageContext, basis: EmbedBasis, receipt: Receipt[Any], record: StageRecord
    ) -> None:
        """Count what was not encoded."""
        super().nothing_to_do(context, basis, receipt, record)
        record.metrics = {f"{name}.encoded": 0 for name in basis.encoders}

    def run(
        self, context: StageContext, basis: EmbedBasis, last: Receipt[Any] | None, record: StageRecord
    ) -> Receipt[Embedded]:
        """Fit and try the encoders that need it, then encode modality by modality."""
        night = Night(context, basis.ingest)
        learned = {n: basis.learned.get(m.encoder) for n, m in context.settings.modalities.items()}
        works = {name: Modality(night, name, encoder, learned[name]) for name, encoder in basis.encoders.items()}
        over_budget: list[str] = []
        try:
            for work in works.values():
                work.prepare(basis.states)
            standing = night.survey(basis.encoders)
            for name, work in works.items():
                work.run(standing[name])
                record.ledgers[name] = work.ledger
                record.metrics |= {f"{name}.{key}": value for key, value in work.metrics.items()}
                over_budget += work.over_budget
                record.writes |= work.writes
        finally:
            night.close()
        record.check()
        if over_budget:
            raise BudgetExceededError(
                "too many contents cannot be encoded: " + "; ".join(over_budget),
                "the quarantine table names each; mend the media, or raise embed.max_bad_fraction",
            )
        encoded = sum(int(record.metrics[f"{name}.encoded"]) for name in basis.encoders)
        record.note = f"{encoded:,} contents encoded"
        record.noop = encoded == 0
        # What was fitted and chosen tonight is part of the encoders' fingerprints.
        fitted = replace(basis, facts={**basis.facts, "encoders": _prints(basis.encoders)})
        return fitted.receipt(context, record, {name: work.feature for name, work in works.items()})


EMBED = Embed()


def plan_embed(context: StageContext, changed: dict[str, int] | None, learning: Collection[str] = ()) -> list[PlanLine]:
    """Say how many contents each modality would encode; `changed` counts what an ingest before it would bring.

    Exact where nothing changed; else an upper bound, since equal contents are encoded once. `learning`: encoders that
    would learn before it, and encode all anew.
    """
    known = context.receipts.latest("pretrain") is not None
    learned = learned_encoders(context.settings, context.workspace) if known else {}
    encoders = build_encoders(context.settings, learned)
    states = EncoderStates(context.workspace)
    ingest = context.receipts.latest("ingest")
    modalities = context.settings.modalities
    wanted = dict.fromkeys(modalities, 0)
    if ingest is not None:
        # An encoder that is still to be fitted or tried, or to learn, has no vectors yet: all its contents are wanted.
        ready = {
            name: encoder
            for name, encoder in encoders.items()
            if modalities[name].encoder not in learning and states.load(name, encoder.identity).hand_to(encoder)
        }
        night = Night(context, ingest)
        wanted = {name: standing.wanted for name, standing in night.survey(ready).items()}
        night.close()
    lines = []
    for name, modality in modalities.items():
        bound = "" if changed is None else "at most "
        total = wanted[name] + (changed or {}).get(name, 0)
        by = context.settings.encoders[modality.encoder].type
        lines.append(
            PlanLine(f"{STAGE} {name}", total > 0, f"{bound if total else ''}{total:,} contents to encode with {by}")
        )
    return lines
