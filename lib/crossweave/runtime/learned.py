"""Which learned encoders a workspace uses, beside those that the settings name."""

from __future__ import annotations

from crossweave.artifacts.learned import LearnedEncoder
from crossweave.config import Settings
from crossweave.storage.records import Place
from crossweave.tables.receipts import Receipts


def learned_encoders(settings: Settings, workspace: Place) -> dict[str, LearnedEncoder]:
    """Return what encoders have learned, by the encoder's name; those that are not named are as the settings say.

    Raises SettingsError where encoders are to learn and stage pretrain has never completed.
    """
    if not settings.pretrain.tasks:
        return {}
    used = Receipts(workspace).required("pretrain").details.used
    return {name: LearnedEncoder.open(workspace, used[name]) for name in settings.pretrain.tasks if name in used}
