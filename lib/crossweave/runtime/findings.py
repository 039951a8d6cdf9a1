"""What doctor says: one finding a check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One check: its name, whether all is well, what was found and how to mend it."""

    name: str
    ok: bool
    found: str
    mend: str = ""
    warns: bool = False  # it goes on as it is, though not as well as it could

    @property
    def must_be_mended(self) -> bool:
        """Whether a run would fail over it."""
        return not self.ok and not self.warns
