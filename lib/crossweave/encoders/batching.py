"""Runs an encoder over a window of values: batches of even cost, order kept, no value lost.

Letters in names: G values that got a vector, B values of one batch, D the encoder's dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from crossweave.encoders.base import Encoder, Failure, FloatArray, Prepared, failure_of
from crossweave.errors import CrossweaveError


def encode_values(encoder: Encoder, values: Sequence[Any]) -> tuple[FloatArray, list[int], list[Failure]]:
    """Vectors float32 [G, D], the G positions in `values` they belong to (ascending), and a failure for each other.

    Raises RuntimeError when the encoder is not loaded, and TypeError where a value is None.
    """
    encoder.require_loaded()
    return encode_prepared(encoder, encoder.prepare(values))


def encode_prepared(encoder: Encoder, prepared: Prepared) -> tuple[FloatArray, list[int], list[Failure]]:
    """The second half of `encode_values`, so that preparing can run on a thread of its own.

    Raises RuntimeError when the encoder is not loaded.
    """
    encoder.require_loaded()
    failures = list(prepared.failures)
    vectors_GD = np.zeros((len(prepared.examples), encoder.dim), dtype=np.float32)
    good_G = np.zeros(len(prepared.examples), dtype=bool)
    costs = [encoder.cost(example) for example in prepared.examples]
    for batch in cut_batches(costs, encoder.batch_budget):
        for indices, result in _encode_batch(encoder, prepared.examples, batch):
            if isinstance(result, Exception):
                failures.append(failure_of(prepared.positions[indices[0]], result))
                continue
            finite_B = np.isfinite(result).all(axis=1)
            vectors_GD[indices] = result
            good_G[indices] = finite_B
            failures += [
                Failure(
                    prepared.positions[indices[row]],
                    "non_finite",
                    "The encoder's vector holds NaN or infinity; every number must be finite.",
                )
                for row in np.flatnonzero(~finite_B)
            ]
    order = np.flatnonzero(good_G)
    order = order[np.argsort(np.asarray(prepared.positions, dtype=np.int64)[order], kind="stable")]
    positions = [prepared.positions[index] for index in order]
    return vectors_GD[order], positions, sorted(failures, key=lambda failure: failure.position)


def cut_batches(costs: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches whose padded cost (largest cost × size) is within `budget`; one index at least.

    Costliest first: what does not fit into memory shows at once, and sorted neighbours waste little padding.
    """
    batch: list[int] = []
    largest = 0
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        if batch and largest * (len(batch) + 1) > budget:
            yield batch
            batch = []
        if not batch:
            largest = costs[index]
        batch.append(index)
    if batch:
        yield batch


def _encode_batch(
    encoder: Encoder, examples: list[Any], batch: list[int]
) -> Iterator[tuple[list[int], FloatArray | Exception]]:
    """The batch as a whole, or one by one where the whole raises, so that one bad item costs only itself."""
    try:
        yield batch, encoder.encode([examples[index] for index in batch])
    except CrossweaveError:
        raise  # settings and files are wrong for every item: nothing to quarantine
    except Exception as error:
        if len(batch) == 1:
            yield batch, error
            return
        for index in batch:
            yield from _encode_batch(encoder, examples, [index])
