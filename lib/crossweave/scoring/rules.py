"""Rules that say which items a user may be recommended, and what freshness adds: as arrays over the item index.

Shape letters: N items, S segments.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crossweave.scoring.caps import Cap, Room

BLOCKS = "blocks"
"""What a user's own blocks are called among the rules."""


@dataclass(frozen=True)
class ItemRules:
    """The rules of a night over its N items."""

    names: tuple[str, ...]  # of the rules that hide an item from everybody; rule r is bit r of `hidden_N`
    hidden_N: np.ndarray  # uint32: which rules hide the item
    segments: tuple[str, ...] = ()  # of the rules for some users
    open_SN: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))  # bool: users of it may have the item
    caps: tuple[Cap, ...] = ()
    boost_N: np.ndarray | None = None  # float32: what freshness adds to every user's score

    def allowed(self, segments: int) -> np.ndarray:
        """Return which items the rules leave to users of these segments (bit s: segment s), bool [N]."""
        allowed_N = self.hidden_N == 0
        for place in range(len(self.segments)):
            if segments >> place & 1:
                allowed_N = allowed_N & self.open_SN[place]
        return allowed_N

    @property
    def say_nothing(self) -> bool:
        """Whether every user may have every item, and no score is changed."""
        return not self.hidden_N.any() and bool(self.open_SN.all()) and not self.caps and self.boost_N is None

    @property
    def fingerprint(self) -> str:
        """Of all that the rules say: equal ones allow and add the same."""
        found = hashlib.sha256(json.dumps([self.names, self.segments]).encode())
        for array in self._arrays().values():
            found.update(np.ascontiguousarray(array).tobytes())
        for cap in self.caps:
            found.update(f"{cap.name} {cap.most}".encode())
        return found.hexdigest()

    def save(self, path: Path) -> None:
        """Write the rules as one file that `load` reads."""
        caps = [[cap.name, cap.most] for cap in self.caps]
        about = json.dumps({"names": self.names, "segments": self.segments, "caps": caps})
        temporary = path.with_name(f".{path.name}")
        with temporary.open("wb") as stream:
            np.savez(stream, about=np.array(about), **self._arrays())
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> ItemRules:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            caps = tuple(
                Cap(name, most, arrays[f"start-{c}"], arrays[f"value-{c}"])
                for c, (name, most) in enumerate(about["caps"])
            )
            boost_N = arrays.get("boost")
            names, segments = tuple(about["names"]), tuple(about["segments"])
            return cls(names, arrays["hidden"], segments, arrays["open"], caps, boost_N)

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"hidden": self.hidden_N, "open": self.open_SN}
        for place, cap in enumerate(self.caps):
            arrays |= {f"start-{place}": cap.start_N, f"value-{place}": cap.value_V}
        return arrays | ({"boost": self.boost_N} if self.boost_N is not None else {})


def reasons_for_short_list(
    rules: ItemRules, candidate_N: np.ndarray, segments: int, seen: np.ndarray, blocked: np.ndarray, listed: np.ndarray
) -> list[str]:
    """Name every rule that keeps at least one candidate, which the user has not seen, out of the user's list.

    `seen`, `blocked` and `listed` are item indices; `candidate_N` (bool) what the model may recommend at all.
    """
    left_N = candidate_N.copy()
    left_N[seen] = False
    left_N[listed] = False
    names = [
        name for place, name in enumerate(rules.names) if (left_N & (rules.hidden_N >> place & 1).astype(bool)).any()
    ]
    own = [place for place in range(len(rules.segments)) if segments >> place & 1]
    names += [f"segments.{rules.segments[place]}" for place in own if (left_N & ~rules.open_SN[place]).any()]
    names += [BLOCKS] if left_N[blocked].any() else []
    left_N &= rules.allowed(segments)
    left_N[blocked] = False
    full = Room(rules.caps, listed.tolist()).full()
    names += [
        f"at_most.{c.name}" for c, codes in zip(rules.caps, full, strict=True) if (left_N & c.touched(codes)).any()
    ]
    return names


def freshness_boost(age_N: np.ndarray, half_life: float, weight: float) -> np.ndarray:
    """Return weight · 2^(−age / half-life), float32 [N]; 0 where the age is unknown (NaN), full for what is to come."""
    boost_N = weight * np.exp2(-np.maximum(age_N, 0.0) / half_life)
    return np.where(np.isnan(age_N), 0.0, boost_N).astype(np.float32)
