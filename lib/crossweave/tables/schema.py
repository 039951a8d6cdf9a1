"""Every table, declared once; writers, readers and tests import it from here.

Ids are strings inside, whatever they were outside (`Ingested.id_types` keeps the caller's type).
"""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

HASHES = pa.struct([("change", pa.int64()), ("content", pa.string())])
"""Of one item in one modality: `change` is compared only with the same item's of last night, `content` is sha-256."""

CELL = pa.struct([("change", pa.int64()), ("content", pa.string()), ("refused", pa.string())])
"""Of one input row in one modality: its hashes, or why it has no `content`: empty_content | not_utf8."""

ITEM_ROWS = pa.schema(
    [
        ("file", pa.string()),  # relative to the folder of the items table
        ("row", pa.int64()),  # in that file, from 0
        ("item_id", pa.string()),
        ("updated_at", pa.timestamp("us", tz="UTC")),  # of inputs.items.updated_at, where it is set
        ("title", pa.string()),
        ("cold", pa.bool_()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("cells", pa.map_(pa.string(), CELL)),  # modality -> cell; a missing modality has no entry
        ("refused", pa.string()),  # not_utf8 | null_id | duplicate_id; null: this row is the item
    ]
)

CATALOG = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("cold", pa.bool_()),  # withheld from training under split.protocol=cold
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("hashes", pa.map_(pa.string(), HASHES)),  # modality -> hashes; a missing modality has no entry
        ("status", pa.string()),  # active | removed
        ("first_seen", pa.date32()),
        ("last_seen", pa.date32()),
    ]
)

USERS = pa.schema([("user_id", pa.string()), ("attributes", pa.map_(pa.string(), pa.string()))])

INTERACTIONS = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("weight", pa.float32()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("split", pa.string()),  # train | valid | test; one split for all rows of a (user, item) pair
    ]
)

HISTORY = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("split", pa.string()),
        ("events", pa.int64()),  # interactions of this user with this item, at least 1
        ("first_time", pa.timestamp("us", tz="UTC")),  # of the earliest that has one
        ("event_time", pa.timestamp("us", tz="UTC")),  # of the latest; null: none has one
        ("weight", pa.float32()),  # of the latest
    ]
)

BLOCKS = pa.schema([("user_id", pa.string()), ("item_id", pa.string())])  # never to be recommended to that user

FEATURES = pa.schema(
    [
        ("content_hash", pa.string()),
        ("vector", pa.binary()),  # little-endian float16, 2 * dim bytes
        ("encoded_on", pa.date32()),
        ("check", pa.int64()),  # CRC-32 of content_hash and vector; null in rows from before the column was added
    ]
)

ITEM_INDEX = pa.schema([("item_id", pa.string()), ("item_index", pa.int32())])

USER_INDEX = pa.schema([("user_id", pa.string()), ("user_index", pa.int32())])  # users with a training interaction

PAST_ITEM = pa.struct([("item_id", pa.string()), ("cosine", pa.float32())])
"""An item of a user's history, and how near it is to the recommended one: cosine of the items' vectors."""

RECOMMENDATIONS = pa.schema(
    [
        ("run_date", pa.date32()),
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("score", pa.float32()),
        ("reasons", pa.map_(pa.string(), pa.float32())),  # modality -> Shapley share of the score; empty below the cut
        ("because", pa.list_(PAST_ITEM)),  # nearest items of the history, nearest first; empty below the cut
        ("rank_before", pa.int32()),  # the rank before re-ranking and exploration; null: below the cut, or nothing does
        ("explored", pa.bool_()),  # a cold item that has its place by score.explore, not by its score
    ]
)

SCORED_USERS = pa.schema([("user_id", pa.string()), ("state", pa.string())])
"""The users of an incremental night; `state` is sha-256 of all that decides a user's list beside what all share."""

LISTS_BEFORE = pa.schema(
    [
        ("run_date", pa.date32()),
        ("user_id", pa.string()),
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("score", pa.float32()),
    ]
)

QUARANTINE = pa.schema(
    [
        ("run_date", pa.date32()),
        ("stage", pa.string()),
        ("entity", pa.string()),  # item | user | interaction
        ("item_id", pa.string()),
        ("user_id", pa.string()),
        ("modality", pa.string()),
        ("content_hash", pa.string()),
        ("encoder", pa.string()),  # fingerprint, where an encoder refused the content
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("transient", pa.bool_()),
        ("run_id", pa.string()),  # of the run that refused it; null in rows from before the column was added
    ]
)

METRICS = pa.schema(
    [
        ("run_date", pa.date32()),
        ("metric", pa.string()),
        ("k", pa.int32()),
        ("slice", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),  # 95 % bootstrap interval over users
        ("high", pa.float64()),
        ("n", pa.int64()),
    ]
)

SCHEMAS = {
    "item_rows": ITEM_ROWS,
    "catalog": CATALOG,
    "users": USERS,
    "interactions": INTERACTIONS,
    "history": HISTORY,
    "blocks": BLOCKS,
    "item_index": ITEM_INDEX,
    "user_index": USER_INDEX,
    "recommendations": RECOMMENDATIONS,
    "lists_before": LISTS_BEFORE,
    "scored_users": SCORED_USERS,
    "quarantine": QUARANTINE,
    "metrics": METRICS,
}


FEATURE_TABLES = "features/"


def table_schema(name: str) -> pa.Schema:
    """Return the Arrow schema of a table by its name; feature tables are called `features/…`."""
    return FEATURES if name.startswith(FEATURE_TABLES) else SCHEMAS[name]


def spark_schema(name: str) -> StructType:
    """Return the same schema as Spark's StructType."""
    return from_arrow_schema(table_schema(name))


def feature_table(modality: str, fingerprint: str) -> str:
    """Name the feature table of a (modality, encoder fingerprint)."""
    return f"{FEATURE_TABLES}{modality}-{fingerprint[:16]}"


def schema_difference(expected: pa.Schema, found: pa.Schema) -> str:
    """Say in one sentence how a file's schema differs from the declared one; empty where it does not."""
    if expected.names != found.names:
        return f"expected the columns {', '.join(expected.names)}, found {', '.join(found.names)}"
    for name in expected.names:
        want, got = _loose(expected.field(name).type), _loose(found.field(name).type)
        if want != got:
            return f"column {name} should be {want}, is {got}"
    return ""


def _loose(kind: pa.DataType) -> str:
    """Compare types by meaning: Parquet files name list and map fields, and time zones, in several ways."""
    if pa.types.is_timestamp(kind):
        return "timestamp"
    if pa.types.is_fixed_size_binary(kind):
        return "binary"
    if pa.types.is_map(kind):
        return f"map<{_loose(kind.key_type)}, {_loose(kind.item_type)}>"
    if pa.types.is_list(kind):
        return f"list<{_loose(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "struct<" + ", ".join(f"{kind[i].name}: {_loose(kind[i].type)}" for i in range(kind.num_fields)) + ">"
    return str(kind)
