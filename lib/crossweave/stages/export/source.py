"""What an export reads: the receipts of the chain that is served, its tables, model and item vectors."""

from __future__ import annotations

from functools import cached_property

import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import functions as F

from crossweave.runtime.made import Made
from crossweave.runtime.stage import StageContext
from crossweave.storage.records import digest
from crossweave.tables.served import served_chain

CODE_VERSION = 1
SPARK_TYPES = {"integer": "bigint", "string": "string"}
ARROW_TYPES = {"integer": pa.int64(), "string": pa.string()}


class Source(Made):
    """One scored workspace: what is served of it."""

    def __init__(self, context: StageContext) -> None:
        self.context = context
        gated = context.settings.evaluate.gate is not None
        super().__init__(context.workspace, served_chain(context.workspace, gated=gated))
        self.ingest, self.tensors, self.trained, self.scored = self.chain
        self.store = context.tables
        self.reads = {"recommendations": self.scored.writes["recommendations"]}
        self.types: dict[str, str] = self.ingest.details.id_types  # item, user -> integer or string

    @property
    def fingerprint(self) -> str:
        """Of all that decides what an export holds."""
        settings = self.context.settings.model_dump(mode="json", include={"modalities"})
        return digest([CODE_VERSION, self.scored.fingerprint, self.reads, self.types, settings])

    @cached_property
    def item_ids(self) -> pa.Array:
        """Ids of all items by item index, in the type of the input."""
        return self.vectors.item_ids.cast(ARROW_TYPES[self.types["item"]])

    def typed(self, entity: str) -> Column:
        """Return the id column of items or users in the type of the input."""
        return F.col(f"{entity}_id").cast(SPARK_TYPES[self.types[entity]]).alias(f"{entity}_id")
