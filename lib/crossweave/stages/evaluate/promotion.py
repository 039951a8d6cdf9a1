"""Who is compared with, and what becomes of a judged run: it is served, or evaluate.gate keeps the old one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from crossweave.config import Settings
from crossweave.errors import PromotionRefusedError, SettingsError
from crossweave.evaluation.gate import refusals
from crossweave.evaluation.report_content import ComparisonRow
from crossweave.runtime.record import StageRecord
from crossweave.runtime.serving import promote, withdrawn
from crossweave.runtime.stage import StageContext
from crossweave.scoring.baselines import POPULARITY
from crossweave.stages.evaluate.baselines import chosen_baselines
from crossweave.stages.evaluate.judging import PREVIOUS
from crossweave.tables.receipt_details import Evaluated
from crossweave.tables.receipts import Receipt
from crossweave.tables.served import Chain, load_served


def check_gate(settings: Settings) -> None:
    """Raise SettingsError for a gate that asks for what is not computed."""
    gate = settings.evaluate.gate
    if gate is None:
        return
    if gate.k > settings.score.top_k:
        raise SettingsError(
            f"evaluate.gate.metric is {gate.metric}, but lists end at score.top_k={settings.score.top_k}",
            "raise score.top_k or take a smaller K",
        )
    unknown = set(gate.against) - {"previous", POPULARITY, *settings.evaluate.baselines}
    if unknown:
        raise SettingsError(
            f"evaluate.gate.against names {sorted(unknown)[0]}, which evaluate.baselines does not have",
            "add it there, or leave it out of the gate",
        )


def check_gate_tonight(context: StageContext, protocol: str) -> None:
    """Raise SettingsError where the gate's baseline cannot be made tonight: a gate that checks nothing is none."""
    gate = context.settings.evaluate.gate
    left_out = chosen_baselines(context, protocol)[1] if gate is not None else {}
    for name in gate.against if gate is not None else ():
        if name in left_out:
            raise SettingsError(
                f"evaluate.gate cannot compare with {name}: {left_out[name]}", "leave it out of evaluate.gate.against"
            )


def chain_before(context: StageContext, chain: Chain) -> Chain | None:
    """Return the served chain, or that before it where tonight's is served already; None under another protocol."""
    served = load_served(context.workspace)
    if served is None:
        return None
    before = served.before if served.chain.score == chain.score else served.chain
    return before if before is not None and before.protocol == chain.protocol else None


def lists_before(context: StageContext, chain: Chain, last: Receipt[Evaluated] | None) -> int | None:
    """Return the version of the table recommendations to compare with: that of what is served."""
    if load_served(context.workspace) is None:  # a workspace from before there was such a thing
        same = last is not None and last.details.protocol == chain.protocol
        return last.reads["recommendations"] if last is not None and same else None
    before = chain_before(context, chain)
    return before.score.writes["recommendations"] if before is not None else None


def reasons_against(
    context: StageContext, comparisons: Sequence[ComparisonRow], left_out: Mapping[str, str]
) -> list[str]:
    """Say why the gate refuses a run, sentence by sentence; none: it may be served."""
    gate = context.settings.evaluate.gate
    if gate is None:
        return []
    against = {PREVIOUS if name == "previous" else name for name in gate.against}
    missing = [f"it cannot be compared with {name}: {why}" for name, why in left_out.items() if name in against]
    return missing + refusals(comparisons, gate.metric, gate.tolerance, against)


def as_details(comparisons: Sequence[ComparisonRow], left_out: Mapping[str, str]) -> dict[str, Any]:
    """Return what the receipt keeps, so that the gate can be asked again without judging again."""
    return {"rows": [asdict(row) for row in comparisons], "left_out": dict(left_out)}


def knows_enough(context: StageContext, last: Receipt[Evaluated]) -> bool:
    """Say whether a receipt has the comparisons that the gate asks for."""
    gate = context.settings.evaluate.gate
    kept = last.details.comparisons.get("rows", [])
    return gate is None or any(row["metric"] == gate.metric for row in kept)


def reconsidered(context: StageContext, last: Receipt[Evaluated]) -> Receipt[Evaluated]:
    """Return the receipt with what the gate of tonight's settings says of its comparisons."""
    kept = last.details.comparisons
    rows = [ComparisonRow(**row) for row in kept["rows"]]
    refused = reasons_against(context, rows, kept["left_out"])
    return replace(last, details=replace(last.details, refused=refused))


def settle(context: StageContext, record: StageRecord, chain: Chain, receipt: Receipt[Evaluated]) -> None:
    """Serve the judged chain, or leave the old one served: with a warning where a rollback took this result back.

    Raises PromotionRefusedError where the gate does not let it pass.
    """
    refused, served = receipt.details.refused, load_served(context.workspace)
    if served is not None and served.chain.score == chain.score:
        return
    if not refused or withdrawn(context, chain):
        why = "passed the gate" if context.settings.evaluate.gate is not None else "evaluated, no gate is set"
        promote(context, record, chain, why, _figure(receipt.details.headline))
        return
    raise PromotionRefusedError(
        f"evaluate.gate refused the new model: {'; '.join(refused)}; {what_stays(context)}",
        f"look at {receipt.details.report}; to serve it anyway: the same command with --set evaluate.gate=null",
    )


def _figure(headline: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figure by which a run is told from another: NDCG, or the first of the summary."""
    ranked = [figure for figure in headline if figure["name"].startswith("ndcg@")]
    return next(iter([*ranked, *headline]), {})


def what_stays(context: StageContext) -> str:
    """Say what is served where tonight's run is not."""
    served = load_served(context.workspace)
    return f"the run of {served.date} stays served" if served is not None else "nothing is served"
