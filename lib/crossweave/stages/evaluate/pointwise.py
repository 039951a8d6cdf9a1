"""What the pointwise heads say of held-out pairs: the rating that was given, and whether an item was taken.

Shape letters: U users of the sample, R pairs, S items that they name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from torch import Tensor

from crossweave.alignment.histories import Histories
from crossweave.alignment.losses.click import Click
from crossweave.alignment.losses.rating import Rating
from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.user_parts import UNKNOWN, UserBatch
from crossweave.evaluation.pointwise import CalibrationCurve, calibration_curve, click_errors, rating_errors
from crossweave.evaluation.report_content import CalibrationRow, PointwiseRow
from crossweave.feeding.items import ItemTensors, open_items
from crossweave.feeding.manifest import Manifest
from crossweave.stages.evaluate.judging import Judging
from crossweave.stages.evaluate.manifest import last_manifest
from crossweave.tables.scored_users import UserTables, user_rows
from crossweave.tables.served import Chain
from crossweave.training.item_tower import gather_items
from crossweave.training.sample_weights import WeightScale, weight_scale_of

CLICK, RATING = "click", "rating"
USERS_AT_ONCE = 256


@dataclass(frozen=True)
class Pointwise:
    """What was found; empty where the model has no such head."""

    rows: list[PointwiseRow]
    calibration: list[CalibrationRow]
    notes: list[str]

    @property
    def metrics(self) -> dict[str, float]:
        """The figures as the run record names them."""
        pairs = {f"{row.head}.pairs": float(row.pairs) for row in self.rows}
        return {f"{row.head}.{row.metric}": row.value for row in self.rows} | pairs


def judge_pairs(judging: Judging, chain: Chain) -> Pointwise:
    """Judge the heads of the losses `rating` and `click` on the held-out pairs of a sample of users.

    The sample is `evaluate.pointwise_users` of those judged, drawn by the seed. The score is the neural one: heads are
    trained on it, not on what is blended in.
    """
    losses = judging.model.spec.losses
    heads = [name for name in (RATING, CLICK) if name in losses]
    most = judging.settings.evaluate.pointwise_users
    manifest = last_manifest(judging.context)
    if not heads or not most:
        return Pointwise([], [], [])
    if manifest is None:
        return Pointwise([], [], [f"{' and '.join(heads)} cannot be judged: the tensors of the model are gone"])
    rows: list[PointwiseRow] = []
    calibration: list[CalibrationRow] = []
    notes: list[str] = []
    pairs = _Pairs(judging, chain, manifest, most)
    if RATING in heads:
        scale = weight_scale_of(manifest)
        if scale.deviation == 0.0:
            notes.append("ratings cannot be judged: all interactions weigh the same")
        else:
            rows += _ratings(pairs, scale)
    if CLICK in heads:
        clicks, curve = _clicks(pairs)
        rows += clicks
        calibration = [CalibrationRow(*point) for point in zip(*_points(curve), strict=True)]
    return Pointwise(rows, calibration, notes)


def _ratings(pairs: _Pairs, scale: WeightScale) -> list[PointwiseRow]:
    given_R = pairs.weights()
    predicted_R = pairs.predict(pairs.relevant, RATING) * scale.deviation + scale.mean
    got, plain = rating_errors(predicted_R, given_R), rating_errors(np.full(len(given_R), scale.mean), given_R)
    return [
        PointwiseRow(RATING, "rmse", got.rmse, got.pairs, plain.rmse),
        PointwiseRow(RATING, "mae", got.mae, got.pairs, plain.mae),
    ]


def _clicks(pairs: _Pairs) -> tuple[list[PointwiseRow], CalibrationCurve]:
    """Held-out items against as many of the user's other candidates: of those, half are taken."""
    others = pairs.negatives()
    both = [np.concatenate(two) for two in zip(pairs.relevant, others, strict=True)]
    taken_R = np.concatenate(
        [np.repeat([1.0, 0.0], [len(yes), len(no)]) for yes, no in zip(pairs.relevant, others, strict=True)]
    )
    probability_R = pairs.predict(both, CLICK)
    got, plain = click_errors(probability_R, taken_R), click_errors(np.full(len(taken_R), taken_R.mean()), taken_R)
    rows = [
        PointwiseRow(CLICK, "accuracy", got.accuracy, got.pairs, plain.accuracy),
        PointwiseRow(CLICK, "log_loss", got.log_loss, got.pairs, plain.log_loss),
        PointwiseRow(CLICK, "calibration_error", got.calibration_error, got.pairs, None),
    ]
    return rows, calibration_curve(probability_R, taken_R)


def _points(curve: CalibrationCurve) -> tuple[list[float], list[float], list[int]]:
    return curve.predicted_B.tolist(), curve.observed_B.tolist(), curve.pairs_B.tolist()


class _Pairs:
    """A sample of the judged users with all that predicts their pairs."""

    def __init__(self, judging: Judging, chain: Chain, manifest: Manifest, most: int) -> None:
        assert judging.data is not None
        self.judging, self.model, self.items = judging, judging.model.load(), open_items(manifest)
        self.rng = np.random.default_rng(judging.settings.seed)
        self.candidates_N = judging.data.candidates_N
        chosen = np.sort(self.rng.permutation(len(judging.users))[:most])
        self.users = [judging.users[place] for place in chosen]
        held_out = judging.data.relevance
        self.relevant = [held_out.indices[slice(*held_out.indptr[place : place + 2])] for place in chosen]
        rows = self._rows(chain, manifest).toPandas().set_index("user_id").loc[self.users]
        self.histories, self.seen = ([np.asarray(row, np.int64) for row in rows[name]] for name in ("history", "seen"))
        codes_UA = np.array(rows["attributes"].tolist(), np.int64).reshape(len(rows), len(manifest.attributes))
        self.index_U, self.codes_UA = rows["user_index"].to_numpy(np.int64), codes_UA

    def _rows(self, chain: Chain, manifest: Manifest) -> DataFrame:
        """Return the users as scoring read them."""
        judging, settings = self.judging, self.judging.settings.score
        reads = chain.score.reads
        read = lambda name: judging.store.read(judging.spark, name, reads[name])  # noqa: E731
        rows = user_rows(
            UserTables.of(read, chain.protocol, blocks=False),
            read("item_index"),
            read("user_index"),
            history=settings.history_splits,
            seen=settings.seen_splits,
            vocabulary=manifest.attributes,
            segments={},
            attributes=[],
            unknown=UNKNOWN,
        )
        return rows.where(F.col("user_id").isin(self.users))

    def weights(self) -> np.ndarray:
        """Return the weight of each relevant pair's latest interaction, float64 [R]."""
        judging = self.judging
        pairs = judging.events.where(F.col("user_id").isin(self.users)).select(
            "user_id", "item_index", "split", "weight"
        )
        if judging.protocol == "warm":
            pairs = pairs.where("split = 'test'")
        weight = pairs.toPandas().set_index(["user_id", "item_index"])["weight"]
        wanted = [(user, int(item)) for user, mine in zip(self.users, self.relevant, strict=True) for item in mine]
        return weight.loc[wanted].to_numpy(np.float64)

    def negatives(self) -> list[np.ndarray]:
        """Return as many candidates a user as there are relevant ones, or all, that the user neither has nor took."""
        candidates = np.flatnonzero(self.candidates_N)
        found = []
        for history, seen, relevant in zip(self.histories, self.seen, self.relevant, strict=True):
            known = np.unique(np.concatenate([history, seen, relevant]))
            drawn = self.rng.choice(candidates, min(len(candidates), len(relevant) + len(known)), replace=False)
            found.append(drawn[~np.isin(drawn, known)][: len(relevant)])
        return found

    @torch.inference_mode()
    def predict(self, pairs: list[np.ndarray], head: str) -> np.ndarray:
        """Return what a head says of each user's items, user after user, float64 [R]."""
        parts = []
        for start in range(0, len(self.users), USERS_AT_ONCE):
            part = slice(start, start + USERS_AT_ONCE)
            who = UserBatch.from_arrays(self.index_U[part], self.codes_UA[part])
            parts.append(predict_pairs(self.model, self.items, self.histories[part], who, pairs[part], head).double())
        return torch.cat(parts).numpy()


def predict_pairs(
    model: AlignmentModel,
    items: ItemTensors,
    histories: list[np.ndarray],
    who: UserBatch,
    pairs: list[np.ndarray],
    head: str,
) -> Tensor:
    """Return a head's prediction of users' items, user after user: float32 [R].

    Only the items that are named go through the tower: those of the histories, and those of the pairs.
    """
    wanted_S = np.unique(np.concatenate([*histories, *pairs]))
    batch = gather_items(items, wanted_S)
    made = model.assemble(model.tokens(batch.vectors, batch.present_SM), batch.present_SM, batch.index_S, batch.known_S)
    places = [np.searchsorted(wanted_S, past) for past in histories]
    users = model.users(made.history_SD, Histories.from_lists(places), who)
    user_R = torch.from_numpy(np.repeat(np.arange(len(pairs)), [len(mine) for mine in pairs]))
    item_R = torch.from_numpy(np.searchsorted(wanted_S, np.concatenate(pairs)))
    score_R = model.pair_scores(users, user_R, model.targets(made).take(item_R[None]))[0]
    loss = model.losses[head]
    if isinstance(loss, Rating):
        return loss.of_pairs(score_R, users.own_BD[user_R], made.target_SD[item_R])
    assert isinstance(loss, Click)
    return loss.probability(score_R)
