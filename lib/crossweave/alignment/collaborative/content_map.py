"""Content map: from what an item is made of to how warm items mix into its collaborative column.

Kernel ridge regression: K = exp(s (Σ shareₘ cosₘ − 1)) over mean-centred modality vectors, and the map is
(K_WW + ridge I)⁻¹ K_WC (Rasmussen & Williams 2006, §2.2). Centring decides: raw vectors of one encoder all look alike.
Shape letters: W warm items, C new ones, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_matrix
from torch import Tensor

from crossweave.alignment.ranges import Above0, AtLeast0, AtLeast1, NotNegative

MAPPED_AT_ONCE = 64


@dataclass(frozen=True)
class ContentMapSettings:
    """What decides a content map."""

    shares: dict[str, NotNegative] = field(default_factory=dict)  # modality -> weight of its cosine; missing ones: 1
    sharpness: Above0 = 2.0  # s: how fast the kernel falls
    ridge: Above0 = 0.1
    neural: Above0 = 0.25  # how far neural scores spread beside these, where new items are the only candidates
    dense_items: AtLeast0 = 20_000  # warm and new items of one system; above, each new item has its own
    neighbours: AtLeast1 = 256  # warm items in that system

    def __post_init__(self) -> None:
        """Raise TypeError for numbers that make no sense."""
        if min(self.sharpness, self.ridge, self.neural) <= 0.0 or min(self.shares.values(), default=0.0) < 0.0:
            raise TypeError("sharpness, ridge and neural must be above 0, shares at least 0")

    def normalised(self, modalities: Iterable[str]) -> dict[str, float]:
        """Return the shares of these modalities, summing to one; all zero where none has a share."""
        shares = {name: self.shares.get(name, 1.0) for name in modalities}
        total = sum(shares.values())
        return {name: share / total if total else 0.0 for name, share in shares.items()}

    def sharpened(self, cosine: Tensor) -> Tensor:
        """Return the kernel of mixed cosines; overwrites them."""
        return cosine.sub_(1.0).mul_(self.sharpness).exp_()

    def as_json(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)


def centred(vectors_NF: np.ndarray, present_N: np.ndarray, reference_N: np.ndarray) -> Tensor:
    """Return unit vectors float32 [N, F] after subtracting the mean of the reference items; zero where missing."""
    wanted = torch.from_numpy(np.asarray(vectors_NF, np.float32))
    base = present_N & reference_N
    moved = wanted - (wanted[torch.from_numpy(base)].mean(dim=0) if base.any() else 0.0)
    unit = torch.nn.functional.normalize(moved, dim=1)
    unit[torch.from_numpy(~present_N)] = 0.0
    return unit


class ContentKernel:
    """The kernel between items of one catalog."""

    def __init__(
        self,
        vectors: Mapping[str, np.ndarray],
        present_NM: np.ndarray,
        reference_N: np.ndarray,
        settings: ContentMapSettings,
    ) -> None:
        """Take the modality vectors [N, dim]; means are those of the reference items (bool [N])."""
        self.settings = settings
        self.shares = settings.normalised(vectors)
        self.units = {n: centred(v, present_NM[:, m], reference_N) for m, (n, v) in enumerate(vectors.items())}

    def __call__(self, left: np.ndarray, right: np.ndarray) -> Tensor:
        """Return the kernel float32 [left, right] of items given by index."""
        cosine = torch.zeros(len(left), len(right))
        rows, columns = torch.from_numpy(left), torch.from_numpy(right)
        for name, share in self.shares.items():
            if share > 0:
                cosine.addmm_(self.units[name][rows], self.units[name][columns].T, alpha=share)
        return self.settings.sharpened(cosine)


def content_map(kernel: ContentKernel, warm_W: np.ndarray, new_C: np.ndarray) -> np.ndarray | csc_matrix:
    """Return the map [W, C], float32; sparse above `dense_items` items, warm and new: it has a cell for each pair."""
    settings = kernel.settings
    if len(warm_W) + len(new_C) <= settings.dense_items:
        return ridge_map(kernel(warm_W, warm_W), kernel(warm_W, new_C), settings.ridge)
    limit = min(settings.neighbours, len(warm_W))
    data, rows = [], []
    for start in range(0, len(new_C), MAPPED_AT_ONCE):
        some = new_C[start : start + MAPPED_AT_ONCE]
        near = kernel(some, warm_W).topk(limit, dim=1)
        for values, places in zip(near.values, near.indices.numpy(), strict=True):
            order = np.sort(places)
            right = values[torch.from_numpy(np.argsort(places))][:, None]
            data.append(ridge_map(kernel(warm_W[order], warm_W[order]), right, settings.ridge).ravel())
            rows.append(order)
    starts = np.arange(len(new_C) + 1) * limit
    parts = (np.concatenate(data), np.concatenate(rows), starts) if data else (np.empty(0), np.empty(0, int), starts)
    return csc_matrix(parts, shape=(len(warm_W), len(new_C)))


def ridge_map(kernel_WW: Tensor, kernel_WC: Tensor, ridge: float) -> np.ndarray:
    """Solve (K_WW + ridge I) A = K_WC in float64; returns A, float32 [W, C]."""
    system = kernel_WW.double()
    system.diagonal().add_(ridge)
    solved = torch.cholesky_solve(kernel_WC.double(), torch.linalg.cholesky(system))
    return np.asarray(solved.float().numpy())
