"""What a report says, as plain frozen records: the evaluate stage fills them, `report.render_report` draws them.

Every text is untrusted (titles come from the catalog) and is escaped when drawn. Every sequence may be empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

OVERALL_SLICE = "all"


@dataclass(frozen=True)
class HeadlineMetric:
    """One figure of the summary, with its interval and the baseline's value where known."""

    name: str  # "ndcg@20"
    value: float
    low: float | None = None
    high: float | None = None
    baseline: float | None = None


@dataclass(frozen=True)
class RunSummary:
    """Which run this is and how it went."""

    run_id: str
    date: str  # YYYY-MM-DD
    job: str
    protocol: str  # a sentence: which users, which candidates, what counts as relevant
    status: str  # "done", "failed", …
    versions: Mapping[str, str] = field(default_factory=dict)  # package or table name → version
    headline: Sequence[HeadlineMetric] = ()
    baseline_name: str = "popularity"


@dataclass(frozen=True)
class StageRow:
    """One stage of the run; rows are None where a stage has none (training)."""

    name: str
    seconds: float
    rows_in: int | None
    rows_out: int | None
    skipped: int = 0
    quarantined: Mapping[str, int] = field(default_factory=dict)  # reason → rows
    note: str = ""
    earlier: bool = False  # done by a run before this one


@dataclass(frozen=True)
class MetricRow:
    """One metric at one K on one slice; the slice "all" feeds the bars."""

    metric: str  # "ndcg", without the K
    k: int | None
    slice: str
    value: float
    low: float | None
    high: float | None
    users: int
    baseline: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)  # of further baselines, by name


@dataclass(frozen=True)
class ComparisonRow:
    """One metric beside that of other lists for the same users, with the interval of the paired difference."""

    other: str  # "the run before", "popularity"
    metric: str  # "ndcg@20"
    ours: float
    theirs: float
    difference: float
    low: float
    high: float
    verdict: str  # better, worse, not distinguishable
    users: int


@dataclass(frozen=True)
class DriftRow:
    """How far one thing moved from the run before."""

    name: str  # "items added"
    what: str  # the figure in words
    value: float
    setting: str  # of evaluate.drift, that holds the limit
    limit: float | None
    falls: bool = False  # whether a small value is what to warn of

    @property
    def warns(self) -> bool:
        """Whether the value has passed its limit."""
        return self.limit is not None and (self.value < self.limit if self.falls else self.value > self.limit)


@dataclass(frozen=True)
class PointwiseRow:
    """One figure of a pointwise head on held-out pairs."""

    head: str  # rating, click
    metric: str  # rmse, mae; accuracy, log_loss, calibration_error
    value: float
    pairs: int
    constant: float | None  # of always saying the mean


@dataclass(frozen=True)
class CalibrationRow:
    """The pairs whose predicted probability lies in one tenth of 0…1."""

    predicted: float  # mean
    observed: float  # share that was taken
    pairs: int


@dataclass(frozen=True)
class SliceRow:
    """One metric on one slice of a family ("history length", "item warmth", …)."""

    family: str
    slice: str
    metric: str  # "ndcg@20"
    value: float
    n: int  # users, or items, that the value averages


@dataclass(frozen=True)
class QuarantineRow:
    """How many rows a stage put aside for one reason, with some of them as samples."""

    stage: str
    modality: str
    reason: str
    count: int
    samples: Sequence[tuple[str, str]] = ()  # item id (empty: not of an item), what was found
    ever: int = 0  # rows that stage and reason put aside over all nights, these among them


@dataclass(frozen=True)
class HistoryItem:
    """An item of a sample user's past; `picture` is JPEG, PNG or WebP bytes, or None."""

    title: str
    picture: bytes | None = None
    caption: str = ""


@dataclass(frozen=True)
class Reason:
    """What a modality adds to a score, in points of the score; may be negative."""

    name: str
    share: float


@dataclass(frozen=True)
class RecommendedItem:
    """An item recommended to a sample user."""

    rank: int
    title: str
    picture: bytes | None
    score: float
    reasons: Sequence[Reason] = ()
    in_test: bool = False  # the user did take it in the held-out rows
    sentence: str = ""  # the reasons in words


@dataclass(frozen=True)
class UserCard:
    """A sample user; `label` must not be a raw user id."""

    label: str
    history: Sequence[HistoryItem] = ()
    recommended: Sequence[RecommendedItem] = ()


@dataclass(frozen=True)
class MapPoint:
    """An item on the map; x and y lie within 0..1, y downwards."""

    x: float
    y: float
    title: str
    category: str = ""  # empty: not known
    picture: bytes | None = None


@dataclass(frozen=True)
class EmbeddingMap:
    """Item vectors laid out so that those alike lie near each other."""

    points: Sequence[MapPoint]
    items: int  # of the catalog that the points are drawn from
    colour: str = ""  # the column behind the categories
    kept: float | None = None  # share of an item's nearest that are its nearest on the map too


@dataclass(frozen=True)
class FoundPicture:
    """A picture that a text found; `own` marks that of the text's item."""

    title: str
    picture: bytes | None
    cosine: float
    own: bool = False


@dataclass(frozen=True)
class RetrievalExample:
    """What an item's text found; `own` stands apart where it is not among the found."""

    title: str
    text: str
    found: Sequence[FoundPicture]  # best first
    own_rank: int  # from 1
    own: FoundPicture


@dataclass(frozen=True)
class Retrieval:
    """Text and pictures of the same items, looked for by each other in the aligned space."""

    left: str = ""  # the modalities' names: the text
    right: str = ""  # and the picture
    candidates: int = 0
    recalls: Sequence[tuple[int, float, float]] = ()  # K, Recall@K of the text's search, of the picture's
    examples: Sequence[RetrievalExample] = ()
    absent: str = ""  # why there is none


@dataclass(frozen=True)
class ReportContent:
    """Everything on the page; `curves` maps a name to its (epoch, value) points, `settings` is YAML text."""

    run: RunSummary
    stages: Sequence[StageRow] = ()
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    metrics: Sequence[MetricRow] = ()
    comparisons: Sequence[ComparisonRow] = ()
    refused: Sequence[str] = ()  # why the run is not served, sentence by sentence without the full stop
    stays: str = "nothing is served"  # what is, where this run is not
    warnings: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)  # what it could not be compared with -> why
    drift: Sequence[DriftRow] = ()
    pointwise: Sequence[PointwiseRow] = ()
    calibration: Sequence[CalibrationRow] = ()
    slices: Sequence[SliceRow] = ()
    quarantine: Sequence[QuarantineRow] = ()
    cards: Sequence[UserCard] = ()
    map: EmbeddingMap | None = None
    retrieval: Retrieval | None = None
    settings: str = ""
