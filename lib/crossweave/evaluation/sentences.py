"""A recommendation's reasons in one short sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MOST_TITLES, MOST_PLAYERS = 2, 2
WORDS = {
    "behaviour": "what others with your taste took",
    "similar_items": "what others took who like such items",
    "freshness": "being new",
}
"""What a share that is no modality's is called; a modality is called by its name."""


def sentence(shares: Mapping[str, float], titles: Sequence[str]) -> str:
    """Say why in one sentence, empty where nothing is known: "Because you took A and B; mostly for its image."

    `shares` are the Shapley shares of the score; the largest positive ones that make more than half of the positive
    sum are named, at most two. `titles` are those of the nearest items of the history, nearest first; at most two.
    """
    took = _listed(list(dict.fromkeys(titles))[:MOST_TITLES])
    why = _listed(_phrases(_decisive(shares)))
    parts = [part for part in (f"because you took {took}" if took else "", f"mostly for {why}" if why else "") if part]
    whole = "; ".join(parts)
    return f"{whole[0].upper()}{whole[1:]}." if whole else ""


def _decisive(shares: Mapping[str, float]) -> list[str]:
    positive = sorted(((share, name) for name, share in shares.items() if share > 0), key=lambda pair: (-pair[0], pair))
    half, reached, names = sum(share for share, _ in positive) / 2, 0.0, []
    for share, name in positive[:MOST_PLAYERS]:
        names.append(name)
        reached += share
        if reached > half:
            break
    return names


def _phrases(names: Sequence[str]) -> list[str]:
    """Name the modalities first, after one "its"."""
    modalities = _listed([name.replace("_", " ") for name in names if name not in WORDS])
    return ([f"its {modalities}"] if modalities else []) + [WORDS[name] for name in names if name in WORDS]


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
