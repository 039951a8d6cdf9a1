"""What encoders learned from the catalog and from the machine, kept so that every night's vectors are comparable."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from crossweave.errors import ArtifactError
from crossweave.storage.location import Location
from crossweave.storage.records import Place, read_record, write_record

SCHEMA = 1


@dataclass(frozen=True)
class EncoderState:
    """One modality's: statistics that `fit` found (None: not fitted), and the verdict of the self-test (None: none)."""

    learned: dict[str, Any] | None = None
    selftest: dict[str, Any] | None = None

    def hand_to(self, encoder: Any) -> bool:
        """Give an encoder what earlier nights found out for it; False where it still has to be found out."""
        if self.learned is not None:
            encoder.restore(self.learned)
        if self.selftest is not None:
            encoder.settle(self.selftest["precision"], self.selftest["backend"])
        return not ((encoder.learns and self.learned is None) or (encoder.open_choices and self.selftest is None))


class EncoderStates:
    """The folder `encoders` of a workspace: one JSON file a (modality, encoder identity)."""

    def __init__(self, workspace: Place) -> None:
        self._folder = Location.of(workspace) / "encoders"

    def load(self, modality: str, identity: str) -> EncoderState:
        """Return what is kept; raises ArtifactError where the file is not as it was written."""
        path = self._path(modality, identity)
        if not path.is_file():
            return EncoderState()
        remedy = f"restore {path} from a backup, or remove it: ./submit.sh embed then makes all of its vectors anew"
        value = read_record(path, SCHEMA, remedy, unsealed=True)
        if value.keys() - {field.name for field in fields(EncoderState)}:
            raise ArtifactError(f"{path} holds other things than what an encoder learned", remedy)
        return EncoderState(**value)

    def save(self, modality: str, identity: str, state: EncoderState) -> None:
        """Replace what is kept, atomically."""
        write_record(self._path(modality, identity), SCHEMA, asdict(state))

    def _path(self, modality: str, identity: str) -> Location:
        return self._folder / f"{modality}-{identity[:16]}.json"
