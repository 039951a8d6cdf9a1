"""What the report shows of single items: pictures, texts and categories, read from the input table at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BooleanType, DataType, StringType

from crossweave.config import Settings
from crossweave.errors import SettingsError
from crossweave.evaluation.pictures import shrink
from crossweave.evaluation.report_spaces import most_telling
from crossweave.stages.evaluate.judging import Judging
from crossweave.tables.contract import ANY, wanted_columns
from crossweave.tables.footers import Footers
from crossweave.tables.paths import user_column
from crossweave.tables.source import check_source, read_source

SEPARATOR = " · "  # between the columns of a text
TEXT_LENGTH, CATEGORY_LENGTH = 300, 40  # characters that are shown


@dataclass(frozen=True)
class Shown:
    """One item's content, as far as the report shows it."""

    picture: bytes | None = None
    text: str = ""
    category: str = ""


@dataclass(frozen=True)
class ShownItems:
    """The items asked for, by item index, and the column that their categories are from; empty: there is none."""

    items: Mapping[int, Shown]
    colour: str

    def __getitem__(self, index: int) -> Shown:
        return self.items.get(index, Shown())


def first_modality(settings: Settings, kind: str) -> str | None:
    """Return the first modality of a kind, or None where there is none."""
    return next((name for name, modality in settings.modalities.items() if modality.kind == kind), None)


def read_shown(judging: Judging, indices: Collection[int], sound: Collection[int]) -> ShownItems:
    """Read what is shown of some items; pictures only of the `sound` ones, and they are shrunk on the workers.

    Raises SettingsError where evaluate.map_colour names no column.
    """
    settings, table = judging.settings, judging.settings.inputs.items
    image, text = first_modality(settings, "image"), first_modality(settings, "text")
    words = settings.modalities[text].columns if text is not None else []
    images = settings.modalities[image].columns if image is not None else []
    candidates = _candidates(settings, {*Footers("items", table.path).names, *table.derived})
    columns = wanted_columns((column, ANY) for column in (table.id, *words, *images, *candidates))
    checked = check_source(lambda: judging.spark, "items", table.path, columns, table.derived)
    source, types = read_source(judging.spark, checked), checked.types
    colours = [column for column in candidates if _tells(settings, column, types[column])]
    index_of = {judging.items["item_id"].iat[i]: i for i in indices}
    item_id = user_column(table.id).cast("string")
    picture = F.lit(None).cast("binary")
    if image is not None:
        opened = item_id.isin([judging.items["item_id"].iat[i] for i in set(indices) & set(sound)])
        picture = F.when(opened, user_column(images[0]))
    rows = source.where(item_id.isin(list(index_of))).select(
        item_id.alias("id"),
        F.udf(_shrunk, "binary")(picture).alias("picture"),
        _text(words).alias("text"),
        F.array(*(_category(column, types) for column in colours)).cast("array<string>").alias("categories"),
    )
    read = {index_of[row["id"]]: row for row in rows.collect()}
    place = most_telling([[row["categories"][n] for row in read.values()] for n in range(len(colours))])
    found = {
        index: Shown(
            row["picture"] and bytes(row["picture"]), row["text"], "" if place is None else row["categories"][place]
        )
        for index, row in read.items()
    }
    return ShownItems(found, "" if place is None else colours[place])


def _shrunk(picture: bytearray | None) -> bytes | None:
    return None if picture is None else shrink(bytes(picture))


def _text(columns: list[str]) -> Column:
    words = F.concat_ws(SEPARATOR, *(user_column(column).cast("string") for column in columns))
    return F.when(F.length(words) > TEXT_LENGTH, F.concat(F.substring(words, 1, TEXT_LENGTH), F.lit("…"))).otherwise(
        words
    )


def _candidates(settings: Settings, known: Collection[str]) -> list[str]:
    """Return the columns that may colour the map: the one that is set, or attributes and tags."""
    wanted = settings.evaluate.map_colour
    if wanted is not None:
        if wanted not in known:
            raise SettingsError(
                f"evaluate.map_colour names {wanted!r}, which the items do not have",
                f"they have {', '.join(sorted(known))}",
            )
        return [wanted]
    return [
        column for column in dict.fromkeys([*settings.inputs.items.attributes, *_tags(settings)]) if column in known
    ]


def _tells(settings: Settings, column: str, kind: DataType) -> bool:
    """Say whether a column may colour the map: one that is set, one of tags, or an attribute of words."""
    given = column == settings.evaluate.map_colour or column in _tags(settings)
    return given or isinstance(kind, StringType | BooleanType)


def _tags(settings: Settings) -> list[str]:
    return [modality.columns[0] for modality in settings.modalities.values() if modality.kind == "tags"]


def _category(column: str, types: Mapping[str, DataType]) -> Column:
    """Return a column's value as a short text; of several tags the first one."""
    value = user_column(column)
    value = F.get(value, F.lit(0)) if isinstance(types[column], ArrayType) else value
    return F.substring(F.coalesce(F.trim(value.cast("string")), F.lit("")), 1, CATEGORY_LENGTH)
