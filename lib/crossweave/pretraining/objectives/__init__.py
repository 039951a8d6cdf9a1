"""What an encoder can learn from: every objective is one module and one line in `OBJECTIVES`."""

from __future__ import annotations

OBJECTIVES = {
    "masked": "crossweave.pretraining.objectives.masked:Masked",
    "causal": "crossweave.pretraining.objectives.causal:Causal",
    "behaviour": "crossweave.pretraining.objectives.behaviour:Behaviour",
    "contrastive": "crossweave.pretraining.objectives.contrastive:Contrastive",
    "vicreg": "crossweave.pretraining.objectives.vicreg:Vicreg",
    "rebuilt": "crossweave.pretraining.objectives.rebuilt:Rebuilt",
    "paired": "crossweave.pretraining.objectives.paired:Paired",
    "distilled": "crossweave.pretraining.objectives.distilled:Distilled",
}
