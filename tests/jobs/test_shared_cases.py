"""The small catalogs of ../shared/cases, which others made: each gives what its expect.md says."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pyspark.sql import SparkSession
from support import REPOSITORY, rows_of

from crossweave import pipeline
from crossweave.config import load_settings
from crossweave.encoders import make_encoder
from crossweave.encoders.media import decode_audio, decode_image
from crossweave.runtime.job import run_job
from crossweave.stages.demo import DEMO
from crossweave.stages.embed import EMBED
from crossweave.stages.ingest import INGEST

SHARED = REPOSITORY.parent / "shared" / "cases"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the cases (../shared/cases) are not here"),
]
FACTS = "brand", "price"
UNMATCHED = "none of the 360 rows", "inputs.interactions.item ('sku')", "inputs.items.id ('sku')", "derived"
MILLIS = "'bought_at'", "1735693200000", "the year 56971", "time_unit: ms"
PLAIN = "readme_makes_demo"  # the catalog and the events of `base.py` as they are


@dataclass(frozen=True)
class Case:
    """What comes out: the exit code, what is said, and what attributes the items have, by name or number by number."""

    code: int = 0
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    attributes: tuple[str, ...] = FACTS
    values: dict[str, list[str | None]] = field(default_factory=dict)
    embeds: bool = False


OWN = {"_row": [str(1000 + n) for n in range(40)], "_item": [f"mine{n}" for n in range(40)]}
OLD = [f"{1900 + n}-01-01" if n != 3 else "0001-01-01" for n in range(40)]
CASES = {
    PLAIN: Case(),
    "brand_float_int": Case(),
    "brotli": Case(3, ("items.parquet", "brotli", "Spark", "the file is whole", "snappy, zstd or gzip"), ("damaged",)),
    "casedup": Case(),
    "categorical": Case(),
    "decimal_weight": Case(),
    "dot_attr": Case(attributes=("meta.brand", "price")),
    "dots": Case(attributes=("brand", "Größe (cm)")),
    "fixedlist": Case(embeds=True),
    "float_string_ids": Case(3, (*UNMATCHED, ".0' (a string)", "' (an integer)")),
    "glob_name": Case(),
    "hive_col": Case(),
    "m_idtypes": Case(3, (*UNMATCHED, "'SKU-", "' (an integer)")),
    "millis": Case(3, MILLIS),
    "millis_global": Case(3, MILLIS),
    "mixed_ext": Case(),
    "nanos_time": Case(),
    "nanos_unused": Case(),
    "null_part": Case(),
    "old_dates": Case(attributes=("brand", "released"), values={"released": OLD}),
    "old_ts_int96": Case(
        attributes=("brand", "released"), values={"released": [f"{day} 00:00:00" for day in OLD]}
    ),
    "own_row": Case(
        attributes=("brand", *("_file", "_row", "_item", "_old")),
        values=OWN | {"_file": ["orders.xlsx"] * 40, "_old": ["o"] * 40},
    ),
    "padded_ids": Case(3, (*UNMATCHED, "' (an integer)", "'000", "' (a string)")),
    "partcol_names": Case(),
    "prices": Case(2, ("of price", 'the text "$'), ("fragile",), embeds=True),
    "space_workspace": Case(),
    "underscore_file": Case(3, ("_items.parquet", "Spark passes over files whose name begins with _")),
    "weights_null": Case(4, ("100 of 360", "no_weight", "missing_weight")),
}  # fmt: skip
UNITS = {"exif_sideways", "wav_size_zero"}  # of decoders, not of tables


@dataclass(frozen=True)
class Ended:
    """How a case ended, and what it left."""

    code: int
    said: str
    workspace: Path

    def catalog(self) -> dict[int, dict[str, Any]]:
        return {int(row["item_id"]): row for row in rows_of(self.workspace, "catalog")}

    def events(self) -> list[tuple[Any, ...]]:
        names = "user_id", "item_id", "weight", "event_time"
        return sorted(tuple(row[name] for name in names) for row in rows_of(self.workspace, "interactions"))


@cache
def ended(name: str, folder: Path) -> Ended:
    """Make a case in a folder and run its command in this process."""
    make(name, {"FIELD": str(folder)})
    conf = folder / name / "mine.yaml"
    words = ["--conf", str(conf), "--set", "spark.shuffle_partitions=2", "--date", "2026-11-26"]
    said: list[str] = []
    code = run_job("ingest", [INGEST, EMBED] if CASES[name].embeds else [INGEST], words, said.append)
    return Ended(code, "\n".join(said), Path(yaml.safe_load(conf.read_text(encoding="utf-8"))["workspace"]))


def make(name: str, environment: dict[str, str], *words: str) -> None:
    script = str(SHARED / name / "make.py")
    subprocess.run([sys.executable, "-B", script, *words], env=os.environ | environment, check=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession) -> Path:
    return tmp_path_factory.mktemp("field")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Ended:
    return ended(PLAIN, folder)


def test_every_case_that_is_there_is_tried() -> None:
    assert {path.parent.name for path in SHARED.glob("*/expect.md")} == set(CASES) | UNITS


def test_the_plain_catalog_is_read_as_it_was_written_and_no_demo_shop_is_made(plain: Ended, folder: Path) -> None:
    base = runpy.run_path(str(SHARED / "base.py"))
    names = zip(base["items"]()["sku"], base["items"]()["name"], strict=True)
    assert {n: row["title"] for n, row in plain.catalog().items()} == dict(names)
    rows = base["events"]().itertuples(index=False)
    assert [(int(user), int(item), weight, int(at.timestamp())) for user, item, weight, at in plain.events()] == sorted(
        ((user, item, float(weight), at) for user, item, weight, at in rows), key=lambda row: (str(row[0]), str(row[1]))
    )
    assert DEMO not in pipeline.stages(load_settings([folder / PLAIN / "mine.yaml"]))
    assert not (plain.workspace / "demo").exists()


@pytest.mark.parametrize("name", [name for name in CASES if name != PLAIN])
def test_a_case_gives_what_is_expected(name: str, folder: Path, plain: Ended) -> None:
    case, found = CASES[name], ended(name, folder)
    assert found.code == case.code, found.said
    assert [words for words in case.says if words not in found.said] == [], found.said
    assert [words for words in case.never if words in found.said] == []
    if case.code:
        return
    catalog, standard = found.catalog(), plain.catalog()
    assert {n: row["title"] for n, row in catalog.items()} == {n: row["title"] for n, row in standard.items()}
    assert found.events() == plain.events()
    assert all(tuple(key for key, _ in row["attributes"]) == case.attributes for row in catalog.values())
    attributes = {n: dict(row["attributes"]) for n, row in catalog.items()}
    brands = {n: dict(row["attributes"])["brand"] for n, row in standard.items()}
    assert {n: row.get("brand", row.get("meta.brand")) for n, row in attributes.items()} == brands
    for key, values in case.values.items():
        assert [attributes[n][key] for n in sorted(attributes)] == values


def test_whole_and_broken_prices_are_one_column_of_numbers(folder: Path, plain: Ended) -> None:
    found = ended("brand_float_int", folder).catalog()
    for n, row in plain.catalog().items():
        price = float(dict(row["attributes"])["price"])
        assert float(dict(found[n]["attributes"])["price"]) == (int(price) if n <= 20 else price)


def test_a_column_that_is_null_in_one_part_is_missing_there_alone(folder: Path, plain: Ended) -> None:
    found, standard = ended("null_part", folder).catalog(), plain.catalog()
    same = {n for n in found if dict(found[n]["hashes"]) == dict(standard[n]["hashes"])}
    assert same == set(range(21, 41))


def test_lists_of_a_fixed_size_are_vectors(folder: Path) -> None:
    workspace = ended("fixedlist", folder).workspace
    (features,) = (path.name for path in (workspace / "tables" / "features").glob("v-*"))
    vectors = [np.frombuffer(row["vector"], np.float16) for row in rows_of(workspace, f"features/{features}")]
    assert sorted(vector.tolist() for vector in vectors) == np.arange(160.0).reshape(40, 4).tolist()


def test_turned_photographs_are_upright_and_have_the_vector_of_the_upright_one(tmp_path: Path) -> None:
    make("exif_sideways", {}, str(tmp_path))
    photographs = {path.stem: path.read_bytes() for path in tmp_path.glob("*.jp*g")}
    encoder = make_encoder("image", "descriptor", {})
    encoder.load()
    vectors = encoder.encode(encoder.prepare(list(photographs.values())).examples)
    unit = dict(zip(photographs, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))
    upright = np.asarray(Image.open(tmp_path / "upright.jpg"), np.float32)
    assert len(photographs) == 4
    for name, data in photographs.items():
        picture = decode_image(data, 1_000_000, None)
        assert picture.size == (240, 160)
        assert np.abs(np.asarray(picture, np.float32) - upright).mean() < 8
        assert unit[name] @ unit["upright"] > 0.95


def test_a_wav_of_no_size_is_all_that_follows(tmp_path: Path) -> None:
    make("wav_size_zero", {}, str(tmp_path))
    wave = decode_audio((tmp_path / "zero.wav").read_bytes(), 16_000, 30)
    assert len(wave) == 32_000
    assert np.abs(np.fft.rfft(wave)).argmax() / 2 == 440
