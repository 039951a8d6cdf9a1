"""What all modalities of a night share: the catalog's contents, where they lie, and how each of them stands.

wanted = distinct content hashes of the catalog in a modality; have = those in the feature table of that modality
and encoder fingerprint, or known to fail under it; encoded = wanted − have.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, reduce
from operator import or_

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from crossweave.encoders.base import Encoder
from crossweave.runtime.stage import StageContext
from crossweave.tables.contents import Standing, distinct_contents, item_cells, standings, with_state
from crossweave.tables.payloads import payload_source
from crossweave.tables.receipt_details import Ingested
from crossweave.tables.receipts import Receipt
from crossweave.tables.schema import feature_table
from crossweave.tables.source import Source

STAGE = "embed"


class Night:
    """What all modalities of a night share: the source, the contents and how they stand."""

    def __init__(self, context: StageContext, ingest: Receipt[Ingested]) -> None:
        self.context, self.settings = context, context.settings
        self.spark: SparkSession = context.spark
        self.store = context.tables
        self.repeated_ids = bool(ingest.details.repeated_ids)
        # One row an item and modality: the unit of the ledgers.
        self.cells = item_cells(self.store.read(self.spark, "item_rows", ingest.writes["item_rows"]))
        self.contents = distinct_contents(self.cells)

    def survey(
        self, encoders: Mapping[str, Encoder], ready: Mapping[str, Encoder] | None = None
    ) -> dict[str, Standing]:
        """Find out how every content stands; only the encoders that are `ready` can have vectors (default: all)."""
        ready = encoders if ready is None else ready
        vectors = {n: self.store.read(self.spark, feature_table(n, e.fingerprint)) for n, e in ready.items()}
        self.contents = with_state(self.contents, vectors, self._known_failures(ready)).cache()
        return standings(self.contents, list(self.settings.modalities))

    def close(self) -> None:
        """Give the cached contents back."""
        self.contents.unpersist()

    def _known_failures(self, encoders: Mapping[str, Encoder]) -> DataFrame:
        quarantine = self.store.read(self.spark, "quarantine").where((F.col("stage") == STAGE) & ~F.col("transient"))
        mine = [(F.col("modality") == n) & (F.col("encoder") == e.fingerprint) for n, e in encoders.items()]
        none = F.lit(False)
        return quarantine.where(none if self.settings.embed.retry_failed else reduce(or_, mine, none))

    @cached_property
    def source(self) -> Source:
        """The items table, with the columns that settings derive."""
        items, modalities = self.settings.inputs.items, self.settings.modalities.values()
        read = [(modality.kind, modality.columns) for modality in modalities]
        return payload_source(lambda: self.spark, items.path, items.id, read, items.derived)
