"""Exact Shapley shares: how much each modality, and behaviour, adds to a score.

The players are the modalities an item has and its id vector ("behaviour"); a coalition's worth is the score that the
model gives with the other players hidden. Shares sum to the score minus that of the empty coalition
(Shapley 1953; Lundberg and Lee 2017). With P players the model runs 2^P coalitions an item, once for all users.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from crossweave.alignment.model import AlignmentModel, ItemBatch
from crossweave.alignment.sides import Targets, Users

BEHAVIOUR = "behaviour"
FRESHNESS = "freshness"  # what a boost of new items adds
SIMILAR_ITEMS = "similar_items"  # a new item's: what users took who took items of such content
MOST_PLAYERS = 10


class Reasons:
    """Coalition vectors of some items, and the shares of scores against them."""

    def __init__(self, model: AlignmentModel, batch: ItemBatch) -> None:
        """Run every coalition of the players over S items; raises ValueError beyond MOST_PLAYERS players."""
        self.players = [*model.spec.modalities, *([BEHAVIOUR] if model.spec.item_id else [])]
        if len(self.players) > MOST_PLAYERS:
            raise ValueError(f"exact reasons take at most {MOST_PLAYERS} players, there are {len(self.players)}")
        modalities = len(model.spec.modalities)
        self._coalitions = list(itertools.product((False, True), repeat=len(self.players)))
        with torch.inference_mode():
            tokens_SMD = model.tokens(batch.vectors, batch.present_SM)
            made: list[Targets] = []
            for coalition in self._coalitions:
                present_SM = batch.present_SM & torch.tensor(coalition[:modalities], dtype=torch.bool)
                behaviour = model.spec.item_id and coalition[-1]
                with_id_S = batch.known_S if behaviour else torch.zeros_like(batch.known_S)
                made.append(model.targets(model.assemble(tokens_SMD, present_SM, batch.index_S, with_id_S)))
        self._model = model
        self._targets_QS = Targets.stack(made)
        self._weights_PQ = torch.from_numpy(shapley_weights(len(self.players))).float()

    def shares(self, users: Users, user_R: Tensor, item_R: Tensor) -> np.ndarray:
        """Return shares [R, players] of R scores: places in `users` against those in the items given at the start."""
        return np.asarray((self._weights_PQ @ self._worth(users, user_R, item_R, slice(None))).T.numpy())

    def empty_score(self, users: Users, user_R: Tensor, item_R: Tensor) -> np.ndarray:
        """Return the scores [R] with every player hidden: what no modality is responsible for."""
        return np.asarray(self._worth(users, user_R, item_R, slice(0, 1))[0].numpy())

    @torch.inference_mode()
    def _worth(self, users: Users, user_R: Tensor, item_R: Tensor, coalitions: slice) -> Tensor:
        """Return the scores [Q, R] that the model gives with the players of these coalitions alone."""
        return self._model.pair_scores(users, user_R, self._targets_QS.take((coalitions, item_R)))


def credit(
    player: str, added_R: np.ndarray, to_R: np.ndarray, players: list[str], shares_RP: np.ndarray, has_RP: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Credit a player, known or new to the game, with what is added to the scores of the rows `to_R` (bool [R]).

    Returns the players, their shares and who of them each row has, all three anew.
    """
    if player not in players:
        players = [*players, player]
        shares_RP, has_RP = (np.pad(values, ((0, 0), (0, 1))) for values in (shares_RP, has_RP))
    column = players.index(player)
    shares_RP, has_RP = shares_RP.copy(), has_RP.copy()
    shares_RP[to_R, column] += added_R[to_R]
    has_RP[:, column] |= to_R
    return players, shares_RP, has_RP


def shapley_weights(players: int) -> np.ndarray:
    """Return the matrix [players, 2^players] that maps coalition worths to Shapley values.

    Coalitions are in the order of itertools.product((False, True), repeat=players).
    """
    coalitions: Sequence[tuple[bool, ...]] = list(itertools.product((False, True), repeat=players))
    weights_PQ = np.zeros((players, len(coalitions)))
    for column, coalition in enumerate(coalitions):
        size = sum(coalition)
        for player in range(players):
            if coalition[player]:
                weights_PQ[player, column] = _share(size - 1, players)
            else:
                weights_PQ[player, column] = -_share(size, players)
    return weights_PQ


def _share(others: int, players: int) -> float:
    """Weight of a coalition of `others` before a player joins: |S|! (P − |S| − 1)! / P!."""
    return math.factorial(others) * math.factorial(players - others - 1) / math.factorial(players)
