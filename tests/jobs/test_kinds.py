"""Every kind of modality through ingest and embed: learned encoders, nested ones, vectors in files, quarantine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession
from support import Chain
from tiny import picture, tiny_bert, tune, video

from crossweave.stages.embed import EMBED
from crossweave.stages.ingest import INGEST

pytestmark = pytest.mark.slow

TWO_STAGES = [INGEST, EMBED]


@pytest.fixture(scope="module")
def media() -> dict[str, bytes]:
    return {"red": video("red"), "blue": video("blue"), "tune": tune([60, 62])}


class Catalog:
    """Six items with a column of each kind, and settings that read them."""

    def __init__(self, root: Path, media: dict[str, bytes]) -> None:
        self.root = root / "inputs"
        self.root.mkdir()
        self.chain = Chain(root / "ws", self.root)
        self.rows = {
            "item_id": [f"i{n}" for n in range(6)],
            "tags": [["red"], ["red", "pan"], ["pan"], None, ["blue"], ["red"]],
            "clip": [media["red"], media["blue"], b"no video", None, media["red"], None],
            "tune": [media["tune"], None, None, None, b"MThd", None],
            "price": [1.0, 2.5, None, 4.0, 1.0, None],
            "brand": ["a", "b", "a", None, "a", None],
            "image": [picture("red", (40 + n, 40)) for n in range(6)],
            "about": [f"red pan {n}" for n in range(6)],
        }
        np.save(self.root / "ready.npy", np.arange(18, dtype=np.float32).reshape(6, 3))
        (self.root / "ready.txt").write_text("".join(f"i{n}\n" for n in range(5)) + "other\n")
        self.settings = {
            "inputs": {"root": str(self.root)},
            "embed": {"max_bad_fraction": 1.0, "selftest_rows": 4},
            "encoders": {
                "weighted": {"type": "tfidf", "max_tags": 8, "spare": 2},
                "frames": {"type": "frames", "frames": 2, "encoder": {"type": "descriptor"}},
                "sounds": {"type": "soundtrack", "encoder": {"type": "spectrogram"}},
                "notes": {"type": "midi"},
                "facts": {
                    "type": "tabular",
                    "columns": {"price": {"as": "number"}, "brand": {"as": "category", "size": 2}},
                },
                "ready": {"type": "file", "path": str(self.root / "ready.npy"), "ids": str(self.root / "ready.txt")},
                "bert": {"type": "transformer", "path": str(tiny_bert(self.root / "bert"))},
            },
            "modalities": {
                "tags": {"kind": "tags", "columns": ["tags"], "encoder": "weighted"},
                "clip": {"kind": "video", "columns": ["clip"], "encoder": "frames"},
                "track": {"kind": "video", "columns": ["clip"], "encoder": "sounds"},
                "tune": {"kind": "audio", "columns": ["tune"], "encoder": "notes"},
                "facts": {"kind": "attributes", "columns": ["price", "brand"], "encoder": "facts"},
                "ready": {"kind": "vector_id", "columns": ["item_id"], "encoder": "ready"},
                "about": {"kind": "text", "columns": ["about"], "encoder": "bert"},
            },
        }
        self.conf = root / "kinds.yaml"
        self.write()
        events = {"user_id": ["u"], "item_id": ["i0"]}
        pq.write_table(pa.table(events), self.root / "interactions.parquet")

    def write(self) -> None:
        self.conf.write_text(yaml.safe_dump(self.settings))
        pq.write_table(pa.table(self.rows), self.root / "items.parquet")

    def night(self, **pairs) -> dict:
        result = self.chain.run(TWO_STAGES, conf=[self.conf], inputs__items__title=None, **pairs)
        assert result["exit_code"] == 0, result["error"]
        return result["metrics"]


@pytest.fixture
def catalog(tmp_path: Path, spark: SparkSession, media: dict[str, bytes]) -> Catalog:
    return Catalog(tmp_path, media)


def test_every_kind_is_encoded_learned_and_kept_from_night_to_night(catalog: Catalog) -> None:
    metrics = catalog.night()
    counted = {
        name: (metrics[f"embed.{name}.encoded"], metrics[f"embed.{name}.failed"])
        for name in catalog.settings["modalities"]
    }
    assert counted == {
        "tags": (4, 0),
        "clip": (2, 1),
        "track": (2, 1),
        "tune": (1, 1),
        "facts": (4, 0),
        "ready": (5, 1),
        "about": (6, 0),
    }
    reasons = {(row["modality"], row["reason"]) for row in catalog.chain.table("quarantine") if row["stage"] == "embed"}
    assert reasons == {
        ("clip", "wrong_format"),
        ("track", "wrong_format"),
        ("tune", "truncated"),
        ("ready", "no_vector"),
    }
    states = sorted(path.name.partition("-")[0] for path in (catalog.chain.workspace / "encoders").iterdir())
    assert states == ["about", "facts", "tags"]  # learned twice, self-tested once

    catalog.rows["tags"][0] = ["green"]
    catalog.rows["price"][5] = 100.0
    catalog.write()
    metrics = catalog.night(date="2026-01-03")
    assert [metrics[f"embed.{name}.encoded"] for name in ("tags", "facts", "clip", "about")] == [1, 1, 0, 0]


def test_encoders_learn_from_a_draw_of_items_however_many_share_a_content(catalog: Catalog) -> None:
    def learned() -> dict:
        path = next((catalog.chain.workspace / "encoders").glob("tags-*"))
        return json.loads(path.read_text())["learned"]

    catalog.night()
    assert learned() == {"lists": 5, "tags": [["red", 3], ["pan", 2], ["blue", 1]]}  # two of five items hold ["red"]
    catalog.night(date="2026-01-03", embed__refit=True, embed__fit_rows=3)
    assert learned()["lists"] == 3


def test_refitting_makes_all_vectors_of_the_encoders_that_learn_anew(catalog: Catalog) -> None:
    catalog.night()
    catalog.rows["tags"][0] = ["green"]
    catalog.write()
    metrics = catalog.night(date="2026-01-03", embed__refit=True)
    assert [metrics[f"embed.{name}.encoded"] for name in ("tags", "facts", "clip")] == [5, 0, 0]
    again = catalog.night(date="2026-01-04")
    assert again["embed.tags.encoded"] == 0


def test_small_rounds_commit_one_after_another_and_encode_every_content_once(catalog: Catalog) -> None:
    metrics = catalog.night(embed__commit_contents=2)
    assert metrics["embed.about.encoded"] == 6
    assert len(catalog.chain.features()["about"]) == 6
    log = next((catalog.chain.workspace / "tables" / "features").glob("about-*")) / "_delta_log"
    assert len(list(log.glob("*.json"))) > 1
