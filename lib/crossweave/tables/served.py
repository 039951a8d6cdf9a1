"""What is served: the last run whose lists may leave the workspace, beside the last run that made some.

`receipts/served.json` holds copies of the receipts of one whole chain, because those of the stages move on every night.
It is written, in one atomic rename, when a run passes evaluation; garbage collection keeps what it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

from crossweave.errors import ArtifactError, SettingsError
from crossweave.storage.location import Location
from crossweave.storage.records import Place, read_record, write_record
from crossweave.tables.receipt_details import Ingested, Scored, Tensors, Trained
from crossweave.tables.receipts import SERVED, Receipt, Receipts

SCHEMA = 2


@dataclass(frozen=True)
class Chain:
    """The receipts of the stages that lead from the input to lists."""

    ingest: Receipt[Ingested]
    tensors: Receipt[Tensors]
    train: Receipt[Trained]
    score: Receipt[Scored]

    @classmethod
    def latest(cls, workspace: Place) -> Self:
        """Return the last receipt of each; raises SettingsError where a stage never completed."""
        return cls(*(Receipts(workspace).required(name) for name in cls.__dataclass_fields__))

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Build a chain from its JSON."""
        return cls(**{name: Receipt.of(receipt) for name, receipt in values.items()})

    def __iter__(self) -> Iterator[Receipt[Any]]:
        return iter((self.ingest, self.tensors, self.train, self.score))

    @property
    def protocol(self) -> str:
        """Under which the lists were made: warm or cold."""
        return self.score.details.protocol

    @property
    def model(self) -> str:
        """The folder of the model, below models/."""
        return self.train.details.folder

    @property
    def scored(self) -> str:
        """The folder of the scored vectors, below scored/; raises ArtifactError where they lie beside the model."""
        if not self.score.details.scored:
            raise ArtifactError(
                "what is served was scored by an earlier version of crossweave", "run ./submit.sh pipeline"
            )
        return self.score.details.scored

    @property
    def tensor_set(self) -> str:
        """The folder of the tensors that the model was trained on, below tensors/."""
        return self.tensors.details.folder


@dataclass(frozen=True)
class Served:
    """The run that is served, and the one before it (whose tables may be gone)."""

    date: str  # YYYY-MM-DD of the run that was promoted
    run_id: str  # of the run that promoted it
    chain: Chain
    before: Chain | None


def load_served(workspace: Place) -> Served | None:
    """Return what is served; None where no run was ever promoted."""
    path = _path(workspace)
    if not path.is_file():
        return None
    value = read_record(path, SCHEMA, f"restore {path} from a backup, or run ./submit.sh evaluate", unsealed=True)
    before = Chain.of(value["before"]) if value["before"] is not None else None
    return Served(value["date"], value["run_id"], Chain.of(value["chain"]), before)


def serve(workspace: Place, chain: Chain, date: str, run_id: str) -> None:
    """Make a chain the served one, atomically."""
    served = load_served(workspace)
    if served is None or served.chain.score != chain.score:
        before = served.chain if served is not None else None
        write_record(_path(workspace), SCHEMA, asdict(Served(date, run_id, chain, before)))


def served_chain(workspace: Place, *, gated: bool) -> Chain:
    """Return the chain whose lists may leave the workspace.

    It is the last scored one, unless an evaluation refused it, or a gate is set (`gated`) that it has not passed yet:
    then it is the last one that was promoted. Raises SettingsError where there is none.
    """
    served, latest = load_served(workspace), Chain.latest(workspace)
    if served is not None and served.chain.score == latest.score:
        return served.chain
    evaluated = Receipts(workspace).latest("evaluate")
    judged = evaluated is not None and evaluated.details.judged == latest.score.run_id
    refused = evaluated.details.refused if evaluated is not None and judged else None
    if not refused and not gated:
        return latest
    if served is not None:
        return served.chain
    if refused:
        raise SettingsError(
            f"nothing is served: evaluate.gate refused the last run, and none was promoted before it ({refused[0]})",
            "mend the model, or promote it anyway: ./submit.sh evaluate … --set evaluate.gate=null",
        )
    raise SettingsError("nothing is served: no run has passed evaluate.gate yet", "run ./submit.sh evaluate")


def _path(workspace: Place) -> Location:
    return Location.of(workspace) / "receipts" / f"{SERVED}.json"
