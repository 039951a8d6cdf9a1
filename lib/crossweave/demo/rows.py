"""The rows of the shop's three tables, and the schemas that they are written under."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from crossweave.demo.blueprint import UNKNOWN_ITEMS, Blueprint
from crossweave.demo.faults import FAULTS, BrokenCell, break_item
from crossweave.demo.pictures import draw_picture, encode_picture
from crossweave.demo.sounds import encode_sound, play
from crossweave.demo.taste import AGE_GROUPS, CATEGORIES, COUNTRIES, stream, style_vectors
from crossweave.demo.words import write_description, write_tags, write_title

ITEMS_SCHEMA = pa.schema(
    [
        ("item_id", pa.int64()),
        ("title", pa.string()),
        ("description", pa.string()),
        ("category", pa.string()),
        ("price", pa.float64()),
        ("released", pa.int32()),
        ("tags", pa.list_(pa.string())),
        ("image", pa.binary()),
        ("sound", pa.binary()),
        ("style_vector", pa.list_(pa.float32())),
        ("cold", pa.bool_()),
    ]
)
USERS_SCHEMA = pa.schema(
    [("user_id", pa.string()), ("age_group", pa.string()), ("country", pa.string()), ("joined", pa.date32())]
)
INTERACTIONS_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.int64()),
        ("rating", pa.float64()),
        ("event_time", pa.timestamp("us", tz="UTC")),  # an instant: without the zone Spark reads TIMESTAMP_NTZ
    ]
)

_LAST_DAY = date(2026, 1, 1)  # not today: the bytes must not depend on when the shop was made
_WINDOW_DAYS = 90
_OLDEST_USER_DAYS, _NEWEST_USER_DAYS = 1095, 30
_UNKNOWN_ID = 9_000_000_000  # beyond int32, so that a narrowed id shows
_PRICES = {"poster": 24.0, "record": 29.0, "cushion": 38.0, "mug": 17.0, "notebook": 14.0, "lamp": 79.0}
_PNG_SHARE, _WAV_SHARE = 0.15, 0.4
_HOUR_WEIGHTS = np.array([1, 1, 1, 1, 1, 1, 2, 3, 4, 5, 5, 6, 7, 6, 5, 5, 6, 7, 9, 11, 12, 10, 6, 3], dtype=float)
_MICROSECONDS = 1_000_000


def users_table(plan: Blueprint) -> pa.Table:
    """Return the users, those without a history included."""
    taste = plan.taste
    columns = {
        "user_id": _user_ids(plan),
        "age_group": [AGE_GROUPS[index] for index in taste.age],
        "country": [COUNTRIES[index] for index in taste.country],
        "joined": [_LAST_DAY - timedelta(days=int(days)) for days in _days_since_joined(plan)],
    }
    return pa.table(columns, schema=USERS_SCHEMA)


def _user_ids(plan: Blueprint) -> list[str]:
    users = len(plan.taste.age)
    return [f"u{number:0{max(4, len(str(users)))}d}" for number in range(1, users + 1)]


def _days_since_joined(plan: Blueprint) -> np.ndarray:
    rng = stream(plan.seed, "users", 1)
    return rng.integers(_NEWEST_USER_DAYS, _OLDEST_USER_DAYS, size=len(plan.taste.age))


def interactions_table(plan: Blueprint) -> tuple[pa.Table, list[BrokenCell]]:
    """Return the picks and a few events of unknown items in the order of their times, and which are broken."""
    picks, user_ids = plan.picks, _user_ids(plan)
    strays = stream(plan.seed, "broken").choice(np.unique(picks.user), size=UNKNOWN_ITEMS)
    user = np.concatenate([picks.user, strays])
    item_id = np.concatenate([plan.item_ids[picks.item], _UNKNOWN_ID + np.arange(UNKNOWN_ITEMS)])
    rating = np.concatenate([picks.rating, np.full(UNKNOWN_ITEMS, 3.0)])
    time = _event_times(_days_since_joined(plan)[user], stream(plan.seed, "times"))
    order = np.argsort(time, kind="stable")
    table = pa.table(
        {
            "user_id": [user_ids[index] for index in user[order]],
            "item_id": item_id[order],
            "rating": rating[order],
            "event_time": pa.array(time[order], type=INTERACTIONS_SCHEMA.field("event_time").type),
        },
        schema=INTERACTIONS_SCHEMA,
    )
    how = "interaction with an item that the shop does not have"
    broken = [
        BrokenCell("interactions", row, int(item_id[at]), user_ids[user[at]], None, None, how, "unknown_item")
        for row, at in enumerate(order)
        if at >= len(picks.item)
    ]
    return table, broken


def _event_times(days_since_joined: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return microseconds since 1970 within the window and after the user joined, more of them in the evening."""
    count = len(days_since_joined)
    days_back = 1 + (rng.random(count) * np.minimum(days_since_joined, _WINDOW_DAYS)).astype(np.int64)
    hours = rng.choice(24, size=count, p=_HOUR_WEIGHTS / _HOUR_WEIGHTS.sum())
    seconds = ((_LAST_DAY - date(1970, 1, 1)).days - days_back) * 86_400 + hours * 3600
    return seconds * _MICROSECONDS + rng.integers(3600 * _MICROSECONDS, size=count)


def item_rows(plan: Blueprint) -> Iterator[dict[str, Any]]:
    """Yield the items in the order of their ids, then a row that repeats an id and a row without one."""
    factors, cast = plan.taste.factors, plan.cast
    vectors = style_vectors(factors, plan.seed)
    years = stream(plan.seed, "gaps", 4).integers(1998, 2026, size=len(factors))
    for index, item_id in enumerate(plan.item_ids):
        item = _draw_item(factors[index], index, plan.seed)
        item |= {
            "item_id": int(item_id),
            "released": 2025 if plan.is_new[index] else int(years[index]),
            "style_vector": vectors[index],
            "cold": bool(plan.is_cold[index]),
        }
        if index in cast.fault_of_item:
            rng = stream(plan.seed, "broken", index)
            break_item(item, FAULTS[cast.fault_of_item[index]], factors[index], rng)
        item |= {column: None for column, without in cast.missing.items() if index in without}
        yield item
    for number, extra_id in enumerate((int(plan.item_ids[cast.twin]), None)):
        item = _draw_item(factors[cast.twin], len(factors) + number, plan.seed)
        yield item | {"item_id": extra_id, "released": 2025, "style_vector": vectors[cast.twin], "cold": False}


def _draw_item(factors: np.ndarray, index: int, seed: int) -> dict[str, Any]:
    """Return the columns that an item's hidden factors give away."""
    words, pictures, sounds = (stream(seed, name, index) for name in ("words", "pictures", "sounds"))
    category = CATEGORIES[int(factors[0])]
    picture, samples = draw_picture(factors, pictures), play(int(factors[3]), sounds)
    return {
        "title": write_title(factors, words),
        "description": write_description(factors, words),
        "category": category,
        "price": float(np.round(2 * _PRICES[category] * words.lognormal(sigma=0.25)) / 2),
        "tags": write_tags(factors, words),
        "image": encode_picture(picture, "PNG" if pictures.random() < _PNG_SHARE else "JPEG"),
        "sound": encode_sound(samples, "WAV" if sounds.random() < _WAV_SHARE else "FLAC"),
    }


def broken_items(plan: Blueprint) -> list[BrokenCell]:
    """Return what is broken among the rows of `item_rows`."""
    count, twin_id = len(plan.item_ids), int(plan.item_ids[plan.cast.twin])
    broken = []
    for index, number in sorted(plan.cast.fault_of_item.items()):
        fault, item_id = FAULTS[number], int(plan.item_ids[index])
        cell = (fault.column, fault.modality, fault.how, fault.reason)
        broken.append(BrokenCell("items", index, item_id, None, *cell))
    repeated, nameless = "row that repeats an earlier id", "row without an id"
    broken.append(BrokenCell("items", count, twin_id, None, None, None, repeated, "duplicate_id"))
    broken.append(BrokenCell("items", count + 1, None, None, None, None, nameless, "null_id"))
    return broken
