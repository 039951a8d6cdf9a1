"""What becomes of a run's lists: they are served from then on, unless a rollback took their result back."""

from __future__ import annotations

from typing import Any

from crossweave.runtime.record import StageRecord
from crossweave.runtime.stage import StageContext
from crossweave.tables.promoting import serve
from crossweave.tables.served import Chain, Promotion, Served, load_served


def promote(context: StageContext, record: StageRecord, chain: Chain, why: str, figure: dict[str, Any]) -> None:
    """Serve a chain, and keep what a rollback to it compares; with a warning, nothing happens to one taken back."""
    served = load_served(context.workspace)
    taken_back = _withdrawn(served, chain)
    if served is not None and taken_back:
        record.warnings.append(
            f"{taken_back}: the run of {served.date} stays served until data or settings change, "
            "or ./submit.sh rollback --to RUN serves another"
        )
    if taken_back or (served is not None and served.chain.score == chain.score):
        return
    embed = context.receipts.latest("embed")
    features = embed.details.items() if embed is not None else ()
    learned = {modality: feature.learned for modality, feature in features if feature.learned}
    why = why if served is not None else f"the first; {why}"
    promotion = Promotion(why, figure, context.tables.identities(chain.tables), learned)
    serve(context.workspace, chain, context.date.isoformat(), context.run_id, promotion)
    record.note += "\n  served from now on"


def withdrawn(context: StageContext, chain: Chain) -> str:
    """Say why a chain must not be served, where a rollback took its result back; empty: none did."""
    return _withdrawn(load_served(context.workspace), chain)


def _withdrawn(served: Served | None, chain: Chain) -> str:
    if served is None or served.chain.score == chain.score or not served.is_withdrawn(chain):
        return ""
    by = served.turns[-1].by if served.turns else "a rollback"
    return f"nothing is new since {by} took this result back"
