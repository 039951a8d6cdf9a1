"""What a tracker is, and how it finds its package."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from typing import ClassVar

from crossweave.errors import SettingsError
from crossweave.runtime.tracking.facts import RunFacts


class Tracker(ABC):
    """One place that is told of runs. It is made before a run starts, from its own settings."""

    name: ClassVar[str]

    @abstractmethod
    def publish(self, facts: RunFacts) -> None:
        """Tell of a run that has ended; may raise anything."""


def require(package: str, extra: str) -> None:
    """Raise SettingsError where a package is not installed, naming the extra that brings it."""
    if importlib.util.find_spec(package) is None:
        raise SettingsError(
            f"tracking.{extra} needs the package {package}, which is not installed",
            f"install crossweave[{extra}] (CROSSWEAVE_EXTRAS={extra} ./submit.sh setup), or set tracking.{extra}=null",
        )
