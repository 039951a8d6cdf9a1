"""Why an item stands in a list: shares of modalities and behaviour, and the nearest items of the user's past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from crossweave.alignment.blend import Blend
from crossweave.alignment.histories import Histories
from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.sides import Targets, Users
from crossweave.feeding.items import ItemTensors
from crossweave.scoring.listed import Listed
from crossweave.scoring.nearest import NONE, nearest_in_history
from crossweave.scoring.reasons import BEHAVIOUR, FRESHNESS, SIMILAR_ITEMS, Reasons, credit
from crossweave.tables.schema import PAST_ITEM
from crossweave.training.item_tower import gather_items

REASON_USERS = 128  # users explained at a time: bounds the coalition vectors in memory


@dataclass(frozen=True)
class Explainer:
    """The model, what was blended into it, and the items; rows of lists in, columns of the table out."""

    model: AlignmentModel
    blend: Blend
    targets: Targets
    center_E: torch.Tensor
    items: ItemTensors
    item_ids: pa.Array
    boost_N: np.ndarray | None  # what new items get on top

    def reasons(self, users: Users, listed: Listed, ranks: int) -> pa.MapArray:
        """Explain the first ranks of each user; the map of the others stays empty."""
        explained = listed.first(ranks)
        counts = np.zeros(len(explained), np.int32)
        names: list[np.ndarray] = []
        values: list[np.ndarray] = []
        for start in range(0, len(users), REASON_USERS):
            chosen = np.flatnonzero(explained & (listed.user_R >= start) & (listed.user_R < start + REASON_USERS))
            if not len(chosen):
                continue
            item_R = listed.item_R[chosen]
            wanted, position = np.unique(item_R, return_inverse=True)
            batch = gather_items(self.items, wanted)
            reasons = Reasons(self.model, batch)
            some, who_R = users.part(start, start + REASON_USERS), torch.from_numpy(listed.user_R[chosen] - start)
            shares_RP = reasons.shares(some, who_R, torch.from_numpy(position))
            has_SP = [batch.present_SM.numpy()]
            if BEHAVIOUR in reasons.players:
                has_SP.append(batch.known_S.numpy()[:, None])
            has_RP = np.concatenate(has_SP, axis=1)[position]  # a player that is not there has no share to name
            players = reasons.players
            boost_R = np.zeros(len(item_R), np.float32)
            if self.boost_N is not None:
                boost_R = self.boost_N[item_R]
                players, shares_RP, has_RP = credit(FRESHNESS, boost_R, boost_R > 0, players, shares_RP, has_RP)
            if self.blend.members:
                # A blend is a sum, so its Shapley share is all that the collaborative models added.
                pairs_1R = self.targets.take(torch.from_numpy(item_R)[None])
                neural_R = self.model.pair_scores(some, who_R, pairs_1R)[0]
                added_R = listed.score_R[chosen] - neural_R.numpy() - boost_R
                known_R = batch.known_S.numpy()[position]
                for name, has_R in ((BEHAVIOUR, known_R), (SIMILAR_ITEMS, ~known_R)):
                    players, shares_RP, has_RP = credit(name, added_R, has_R, players, shares_RP, has_RP)
            counts[chosen] = has_RP.sum(1)
            names.append(np.array(players)[np.nonzero(has_RP)[1]])
            values.append(shares_RP[has_RP])
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        keys = pa.array(np.concatenate(names) if names else [], pa.string())
        return pa.MapArray.from_arrays(
            pa.array(offsets), keys, pa.array(np.concatenate(values) if values else [], pa.float32())
        )

    def because(self, histories: Histories, listed: Listed, ranks: int, count: int) -> pa.ListArray:
        """Name the `count` nearest items of the history at the first ranks; the list of the others stays empty."""
        near_RC = np.full((len(listed.item_R), count), NONE, np.int64)
        cosine_RC = np.zeros(near_RC.shape, np.float32)
        chosen = np.flatnonzero(listed.first(ranks))
        user_R, item_R = listed.user_R[chosen], listed.item_R[chosen]
        near_RC[chosen], cosine_RC[chosen] = nearest_in_history(
            self.targets.item_SE, self.center_E, histories, user_R, item_R, count
        )
        found_RC = near_RC != NONE
        offsets = np.concatenate([[0], np.cumsum(found_RC.sum(1))]).astype(np.int32)
        pairs = [self.item_ids.take(pa.array(near_RC[found_RC])), pa.array(cosine_RC[found_RC])]
        values = pa.StructArray.from_arrays(pairs, fields=list(PAST_ITEM))
        return pa.ListArray.from_arrays(pa.array(offsets), values)
