"""All training interactions at once, as a sparse matrix: what closed-form models are fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from crossweave.feeding.arrays import bytes_to_arrays
from crossweave.feeding.manifest import Manifest
from crossweave.feeding.reader import read_row_groups
from crossweave.feeding.schema import SEQUENCE_FIELDS
from crossweave.feeding.sequences import CODES, HELD_OUT, attribute_codes


@dataclass(frozen=True)
class Interactions:
    """Who took what; letters: U users of the sequence tensors, N items of the index, A user attributes."""

    seen_UN: csr_matrix  # float32, 1 where the user took the item in training
    held_out: list[np.ndarray]  # int32 a user, validation items
    attributes_UA: np.ndarray  # int32, codes of the users' attributes


def read_interactions(manifest: Manifest) -> Interactions:
    """Read every sequence row and lay the rows of one user together."""
    users: list[np.ndarray] = []
    items: list[np.ndarray] = []
    held_out = [np.empty(0, HELD_OUT) for _ in range(manifest.users)]
    attributes_UA = np.zeros((manifest.users, len(manifest.attributes)), CODES)
    for group in read_row_groups(manifest, "sequences"):
        rows = bytes_to_arrays(group["items"], SEQUENCE_FIELDS["items"])
        owner = np.asarray(group["user_index"], np.int64)
        users.append(np.repeat(owner, [len(row) for row in rows]))
        items.extend(rows)
        attributes_UA[owner] = attribute_codes(manifest, group)
        for user, wanted in zip(owner, bytes_to_arrays(group["held_out"], HELD_OUT), strict=True):
            if len(wanted):
                held_out[user] = wanted
    flat_users, flat_items = np.concatenate(users), np.concatenate(items)
    ones = np.ones(len(flat_users), np.float32)
    seen_UN = csr_matrix((ones, (flat_users, flat_items)), shape=(manifest.users, manifest.items))
    seen_UN.data[:] = 1.0
    seen_UN.sort_indices()
    return Interactions(seen_UN, held_out, attributes_UA)
