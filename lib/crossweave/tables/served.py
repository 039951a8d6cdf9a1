"""What is served: the run whose lists may leave the workspace, beside the last run that made some.

`receipts/served.json` holds copies of the receipts of one whole chain, because those of the stages move on every night,
and of the chains that were served before, to roll back to. It is written whole when a run is promoted or rolled back
(`tables/promoting.py`); garbage collection keeps what it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from crossweave.errors import ArtifactError, SettingsError
from crossweave.storage.location import Location
from crossweave.storage.records import Place, read_record
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
    def origin(self) -> str:
        """What decides the lists but for the date: nights on which nothing is new have the same."""
        return self.score.details.origin or self.score.fingerprint

    @property
    def day(self) -> str:
        """The day on which it was scored, by the clock: YYYY-MM-DD."""
        stamp = self.score.run_id
        return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}" if stamp[:8].isdigit() else stamp

    @property
    def tables(self) -> dict[str, int]:
        """The versions of the tables that readers of the lists may open."""
        return {**self.score.reads, **self.tensors.writes, **self.score.writes}

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
class Promotion:
    """Why a chain was promoted, and what is not in its receipts."""

    why: str = ""
    figure: dict[str, Any] = field(default_factory=dict)  # of the summary: name, value, low, high
    tables: dict[str, str] = field(default_factory=dict)  # those that readers may open -> identity; empty: not known
    learned: dict[str, str] = field(default_factory=dict)  # modality -> fingerprint of what its encoder has learned


@dataclass(frozen=True)
class Generation:
    """A result that is served or was, and can be again; nights on which nothing was new count as one."""

    runs: list[str]  # that promoted it, the last one last
    date: str  # YYYY-MM-DD of that one, as are the chain and the promotion
    chain: Chain
    before: str = ""  # a run of the generation that was served until then
    promotion: Promotion = field(default_factory=Promotion)

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        """Build one from its JSON."""
        return cls(**{**value, "chain": Chain.of(value["chain"]), "promotion": Promotion(**value["promotion"])})


@dataclass(frozen=True)
class Turn:
    """One time that what is served changed."""

    when: str  # UTC, ISO 8601 to the second
    by: str  # the run that did it
    why: str
    run_id: str  # that is served from then on, as are the next four
    date: str
    model: str
    recommendations: int | None  # version of the table
    figure: dict[str, Any]


@dataclass(frozen=True)
class Served:
    """The run that is served, and the one before it (whose tables may be gone)."""

    date: str  # YYYY-MM-DD of the run that was promoted
    run_id: str  # of the run that promoted it
    chain: Chain
    before: Chain | None
    generations: list[Generation] = field(default_factory=list)  # as they were promoted, the newest last
    turns: list[Turn] = field(default_factory=list)  # the newest last

    @property
    def now(self) -> int:
        """The place of what is served among the generations."""
        return next(place for place, known in enumerate(self.generations) if self.run_id in known.runs)

    def is_withdrawn(self, chain: Chain) -> bool:
        """Say whether a rollback took the result of a chain back: it was promoted after what is served now."""
        return chain.origin in {known.chain.origin for known in self.generations[self.now + 1 :]}

    def kept(self, count: int) -> list[Generation]:
        """Return what is served and the newest `count` generations beside it."""
        others = [known for place, known in enumerate(self.generations) if place != self.now]
        return [self.generations[self.now], *others[len(others) - min(count, len(others)) :]]


def load_served(workspace: Place) -> Served | None:
    """Return what is served; None where no run was ever promoted."""
    path = served_path(workspace)
    if not path.is_file():
        return None
    value = read_record(path, SCHEMA, f"restore {path} from a backup, or run ./submit.sh evaluate", unsealed=True)
    date, run_id, chain = value["date"], value["run_id"], Chain.of(value["chain"])
    before = Chain.of(value["before"]) if value["before"] is not None else None
    known = [Generation.of(one) for one in value.get("generations", [])]
    if not known:  # a workspace from before there were any
        first = [Generation([before.score.run_id], before.day, before)] if before is not None else []
        known = [*first, Generation([run_id], date, chain, before.score.run_id if before is not None else "")]
    return Served(date, run_id, chain, before, known, [Turn(**turn) for turn in value.get("turns", [])])


def served_chain(workspace: Place, *, gated: bool) -> Chain:
    """Return the chain whose lists may leave the workspace.

    It is the last scored one, unless an evaluation refused it, a rollback took its result back, or a gate is set
    (`gated`) that it has not passed yet: then it is what was promoted or rolled back to last. Raises SettingsError
    where there is none.
    """
    served, latest = load_served(workspace), Chain.latest(workspace)
    if served is not None and (served.chain.score == latest.score or served.is_withdrawn(latest)):
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


def served_path(workspace: Place) -> Location:
    """Return where it is written down."""
    return Location.of(workspace) / "receipts" / f"{SERVED}.json"
