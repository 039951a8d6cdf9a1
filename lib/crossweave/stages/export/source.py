"""What an export reads: the receipts of the chain that is served, its tables, model and item vectors."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import functions as F

from crossweave.errors import SettingsError
from crossweave.feeding.manifest import Manifest, load_manifest
from crossweave.runtime.run import StageContext
from crossweave.tables.files import digest
from crossweave.tables.served import served_chain
from crossweave.tables.store import TableStore

CODE_VERSION = 1
SPARK_TYPES = {"integer": "bigint", "string": "string"}
ARROW_TYPES = {"integer": pa.int64(), "string": pa.string()}


class Source:
    """One scored workspace."""

    def __init__(self, context: StageContext) -> None:
        self.context = context
        gated = context.settings.evaluate.gate is not None
        self.ingest, self.tensors, self.trained, self.scored = served_chain(context.workspace, gated=gated)
        self.store = TableStore(context.workspace / "tables")
        self.reads = {"recommendations": self.scored.writes["recommendations"]}
        self.types: dict[str, str] = self.ingest.details["id_types"]  # item, user -> integer or string

    @property
    def fingerprint(self) -> str:
        """Of all that decides what an export holds."""
        settings = self.context.settings.model_dump(mode="json", include={"modalities"})
        return digest([CODE_VERSION, self.scored.fingerprint, self.reads, self.types, settings])

    @cached_property
    def model_folder(self) -> Path:
        """The model's folder, which scoring left the item vectors in."""
        return self.context.workspace / "models" / str(self.trained.details["folder"])

    @cached_property
    def manifest(self) -> Manifest:
        """The tensor set that the model was trained on; raises SettingsError where it is gone."""
        manifest = load_manifest(self.context.workspace / "tensors" / self.tensors.details["folder"])
        if manifest is None:
            raise SettingsError("the tensors of this model are gone", "run ./submit.sh tensors")
        return manifest

    @cached_property
    def item_ids(self) -> pa.Array:
        """Ids of all items by item index, in the type of the input."""
        with pa.memory_map(str(self.model_folder / "item_ids.arrow")) as source:
            ids = pa.ipc.open_file(source).read_all().column("item_id").combine_chunks()
        return ids.cast(ARROW_TYPES[self.types["item"]])

    def vectors(self, name: str) -> np.ndarray:
        """Return an array that scoring left beside the model, memory-mapped."""
        return np.asarray(np.load(self.model_folder / f"{name}.npy", mmap_mode="r"))

    def model_facts(self) -> dict[str, object]:
        """Return model.json."""
        facts: dict[str, object] = json.loads((self.model_folder / "model.json").read_text(encoding="utf-8"))
        return facts

    def typed(self, entity: str) -> Column:
        """Return the id column of items or users in the type of the input."""
        return F.col(f"{entity}_id").cast(SPARK_TYPES[self.types[entity]]).alias(f"{entity}_id")
