"""Named errors, each with the exit code that a scheduler sees.

Exit codes: 0 done or nothing to do, 1 bug, 2 bad settings or usage, 3 input breaks the contract,
4 more bad items or rows than the budget allows, a model that evaluate.gate refused, or held-out rows known to training
or scoring, 75 try again (`EX_TEMPFAIL` of sysexits.h).
"""

from __future__ import annotations


class CrossweaveError(Exception):
    """Base of every error that Crossweave raises on purpose.

    `message` says what was expected and what came; `hint` says what to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[CrossweaveError], tuple[str, str]]:
        return type(self), (self.message, self.hint)  # survives the trip from a worker to the driver


class SettingsError(CrossweaveError, ValueError):
    """The settings or the command line cannot be used."""

    exit_code = 2


class InputContractError(CrossweaveError, ValueError):
    """An input file or table breaks the contract: unreadable, a column missing or of another type."""

    exit_code = 3


class TableError(InputContractError):
    """A table of the workspace is damaged: a data file missing, truncated or of another schema."""


class ArtifactError(TableError):
    """A model, a tensor set, scored vectors or a receipt is gone, damaged, or of a version that is not known."""


class BudgetExceededError(CrossweaveError):
    """More contents failed, or more rows were refused, than the settings allow; good work or last night's is kept."""

    exit_code = 4


class PromotionRefusedError(CrossweaveError):
    """The new model is worse than the gate allows: the old one stays served."""

    exit_code = 4


class LeakageError(CrossweaveError):
    """What evaluation judges by is known to training or scoring: its figures would mean nothing."""

    exit_code = 4


class TryAgainError(CrossweaveError):
    """Another run holds the workspace or a fault passed by: the same command may succeed later."""

    exit_code = 75


class TrainingDivergedError(CrossweaveError):
    """The loss of a training stopped being a finite number."""


class ReconciliationError(CrossweaveError):
    """Rows in differ from rows out plus skipped plus quarantined: a bug that must not pass silently."""
