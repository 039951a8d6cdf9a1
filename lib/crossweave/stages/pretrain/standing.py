"""Which encoders are to learn tonight, and which of what was learned is used: by age, drift, and what the gate said."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Set
from dataclasses import replace

from crossweave.config.pretraining import PretrainSettings
from crossweave.tables.receipt_details import Attempt, Evaluated, Pretrained

OPEN, PASSED, REFUSED = "open", "passed", "refused"


def judged(known: Pretrained, refused: bool, vectors_of: Set[str]) -> Pretrained:
    """Return what is known with what the gate said last: what it refused gives way to what was used before it.

    `vectors_of`: the artifacts whose vectors the judged lists were made with. The first lists of an attempt decide.
    """
    verdict = REFUSED if refused else PASSED
    last = {
        name: replace(attempt, standing=verdict)
        if attempt.standing == OPEN and attempt.learned in vectors_of
        else attempt
        for name, attempt in known.last.items()
    }
    used = dict(known.used)
    for name, attempt in last.items():
        if attempt.standing == REFUSED and attempt.learned and used.get(name) == attempt.learned:
            del used[name]
            if attempt.before:
                used[name] = attempt.before
    return Pretrained(last, used)


def added(known: Pretrained, name: str, attempt: Attempt) -> Pretrained:
    """Return what is known with a new attempt, whose encoder is used from tonight on if it learned anything."""
    before = known.used.get(name, "")
    used = {**known.used, name: attempt.learned} if attempt.learned else dict(known.used)
    return Pretrained({**known.last, name: replace(attempt, before=before)}, used)


def asked_for(known: Pretrained, asked: Mapping[str, str]) -> Pretrained:
    """Return the part that the settings still ask for: other steps, or other weights to begin with, are another's."""
    last = {name: attempt for name, attempt in known.last.items() if asked.get(name) == attempt.asked}
    return Pretrained(last, {name: known.used[name] for name in last if name in known.used})


def fair(known: Pretrained, history: str) -> Pretrained:
    """Return what is known without the use of what learned from interactions that have changed since.

    Their split may hold out tonight what it learned from: it must not be fallen back to either.
    """
    moved = {name for name, attempt in known.last.items() if attempt.history not in ("", history)}
    return Pretrained(known.last, {name: used for name, used in known.used.items() if name not in moved})


def why_due(
    name: str,
    known: Pretrained,
    settings: PretrainSettings,
    evaluated: Evaluated | None,
    date: datetime.date,
    history: str = "",
) -> str:
    """Say why an encoder is to learn tonight; empty: what it has learned is kept.

    `history`: the identity of tonight's interactions.
    """
    attempt = known.last.get(name)
    if attempt is None:
        return "it has not learned as the settings ask"
    if attempt.history not in ("", history):
        return "the interactions have changed, and their split may now hold out what it learned from"
    age = (date - datetime.date.fromisoformat(attempt.date)).days
    if age >= settings.every_days:
        return f"it learned {age} days ago"
    if settings.on_drift and evaluated is not None and evaluated.drifted and evaluated.judged > attempt.run_id:
        return f"the last evaluation warned: {evaluated.drifted[0]}"
    return ""
