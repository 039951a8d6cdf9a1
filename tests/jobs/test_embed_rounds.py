"""Rounds of embed: each payload file is read for one share of the contents alone, and what is committed stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from support import Chain

import crossweave.stages.embed.modality as modality
from crossweave.stages.embed import EMBED
from crossweave.stages.ingest import INGEST

pytestmark = pytest.mark.slow

CONF = """
encoders:
  words: {type: hashing, dim: 16}
modalities:
  text: {kind: text, columns: [title], encoder: words}
"""
STAGES = [INGEST, EMBED]


class Shop:
    """Items in files of a few, one blank id, and one interaction."""

    def __init__(self, folder: Path, files: int, items: int) -> None:
        self.chain, self.conf = Chain(folder / "ws", folder / "in"), folder / "own.yaml"
        self.conf.write_text(CONF, encoding="utf-8")
        (folder / "in" / "items.parquet").mkdir(parents=True)
        for file in range(files):
            ids = [f"{file}-{item}" for item in range(items)]
            table = pa.table({"item_id": [*ids, ""], "title": [f"thing {name}" for name in (*ids, "")]})
            pq.write_table(table, folder / "in" / "items.parquet" / f"{file}.parquet", row_group_size=3)
        pq.write_table(pa.table({"user_id": ["u"], "item_id": ["0-0"]}), folder / "in" / "interactions.parquet")

    def night(self, **pairs: Any) -> dict[str, Any]:
        return self.chain.run(STAGES, conf=[self.conf], **pairs)

    def vectors(self) -> int:
        return len(self.chain.features().get("text", {}))

    def commits(self) -> int:
        (folder,) = (self.chain.workspace / "tables" / "features").glob("text-*")
        return len(list((folder / "_delta_log").glob("*.json")))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often each file is read for its payloads."""
    found: Counter[str] = Counter()
    whole = modality.read_payloads

    def counted(spark: Any, source: Any, files: Any, *rest: Any) -> Any:
        found.update(files)
        return whole(spark, source, files, *rest)

    monkeypatch.setattr(modality, "read_payloads", counted)
    return found


@pytest.mark.parametrize(("files", "items", "most", "commits"), [(4, 6, 6, 4), (4, 6, 12, 2), (1, 24, 6, 2)])
def test_each_file_is_read_once_and_commits_stay_by_round(
    tmp_path: Path, spark: SparkSession, reads: Counter[str], files: int, items: int, most: int, commits: int
) -> None:
    shop = Shop(tmp_path, files, items)
    result = shop.night(embed__commit_contents=most, embed__rows_per_task=3)
    assert result["exit_code"] == 0, result["error"]
    assert shop.vectors() == files * items
    assert reads == {f"{file}.parquet": 1 for file in range(files)}
    assert shop.commits() >= commits
    refused = shop.chain.table("quarantine")
    assert {row["run_id"] for row in refused} == {result["run_id"]}
    assert len(refused) == files


@pytest.mark.parametrize(("files", "items"), [(4, 6), (1, 24)])
def test_a_run_that_dies_between_two_rounds_keeps_the_first(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, files: int, items: int
) -> None:
    shop = Shop(tmp_path, files, items)
    commit = modality.Modality._committed

    def once(self: Any, *given: Any) -> Any:
        monkeypatch.setattr(modality.Modality, "_committed", lambda *_: 1 / 0)
        return commit(self, *given)

    monkeypatch.setattr(modality.Modality, "_committed", once)
    assert shop.night(embed__commit_contents=6, embed__rows_per_task=3)["exit_code"] == 1
    kept = shop.vectors()
    assert 0 < kept < files * items
    monkeypatch.setattr(modality.Modality, "_committed", commit)
    again = shop.night(embed__commit_contents=6, embed__rows_per_task=3)
    assert again["metrics"]["embed.text.encoded"] == files * items - kept
    assert shop.vectors() == files * items
