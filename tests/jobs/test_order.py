"""In which order attributes, modalities, encoders and losses are written decides nothing; that of re-ranking does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession
from support import REPOSITORY, Chain, Night, stage

from crossweave.config import load_settings
from crossweave.feeding.manifest import load_manifest
from crossweave.feeding.sequences import read_all
from crossweave.stages.embed import EMBED
from crossweave.stages.ingest import INGEST
from crossweave.stages.tensors import TENSORS
from crossweave.storage.records import digest

pytestmark = pytest.mark.slow

LOCAL = REPOSITORY / "conf" / "local.yaml"
PARTS = {
    "losses": {"sampled_softmax": 1.0, "infonce": 0.05, "coral": 0.1, "bpr": 0.2},
    "collaborative": {"edlae": {}, "item_knn": {}, "als": {"rank": 4}},
}


def reversed_deep(value: Any) -> Any:
    """Return a value with every mapping in it written the other way round."""
    if isinstance(value, dict):
        return {key: reversed_deep(part) for key, part in reversed(value.items())}
    return value


def settings_file(folder: Path, backwards: bool, more: dict[str, Any]) -> Path:
    """Write the demo's settings and more of `model`, forwards or backwards."""
    plain = yaml.safe_load(LOCAL.read_text(encoding="utf-8"))
    plain["model"].update(more)
    if backwards:
        plain["inputs"]["users"]["attributes"].reverse()
        plain = reversed_deep(plain)
    path = folder / f"{'backwards' if backwards else 'forwards'}.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return path


def lists(chain: Chain) -> dict[tuple[str, int], tuple[str, float]]:
    return {(row["user_id"], row["rank"]): (row["item_id"], row["score"]) for row in chain.table("recommendations")}


def test_the_same_settings_written_backwards_are_the_same_settings(tmp_path: Path):
    one, other = (load_settings([settings_file(tmp_path, way, PARTS)]) for way in (False, True))
    names = list(one.inputs.users.attributes)
    assert names == list(reversed(other.inputs.users.attributes)) and len(names) > 1
    but_the_list = {"inputs": {"users": {"attributes"}}}
    assert digest(one.model_dump(mode="json", exclude=but_the_list)) == digest(
        other.model_dump(mode="json", exclude=but_the_list)
    )


def test_the_same_settings_written_backwards_give_the_same_lists_to_the_last_digit(
    night: Night, tmp_path: Path, shop: Path
):
    chain = Chain(tmp_path / "ws", shop)
    chain.run(conf=[settings_file(tmp_path, backwards=True, more={})])
    assert lists(chain) == lists(night.chain)


def test_a_code_in_the_sequences_is_one_of_its_own_attribute_however_the_attributes_are_written(
    tmp_path: Path, shop: Path, spark: SparkSession
):
    chain = Chain(tmp_path / "ws", shop)
    three = [INGEST, EMBED, TENSORS]
    chain.run(three, inputs__users__attributes=["country", "age_group"])
    (folder,) = (path for path in (chain.workspace / "tensors").iterdir() if path.is_dir())
    manifest = load_manifest(folder)
    assert manifest is not None
    known = {row["user_id"]: row for row in pq.read_table(shop / "users.parquet").to_pylist()}
    names = {row["user_index"]: row["user_id"] for row in chain.table("user_index")}
    told = 0
    for rows in read_all(manifest, 0, 1):
        for user, codes in zip(rows.user_R, rows.attributes_RA.tolist(), strict=True):
            for (name, values), code in zip(manifest.attributes.items(), codes, strict=True):
                if code >= 2:
                    assert values[code - 2] == str(known[names[user]][name])
                    told += 1
    assert told > 20


def test_the_order_of_re_ranking_steps_is_kept_and_a_new_order_is_scored_anew(night: Night, tmp_path: Path):
    chain = night.chain.copy(tmp_path / "ws")
    steps = {"mmr": {"relevance": 0.5}, "popularity": {}}
    conf = tmp_path / "rerank.yaml"
    for backwards in (False, True):
        order = dict(reversed(steps.items())) if backwards else steps
        conf.write_text(yaml.safe_dump({"score": {"rerank": order}}, sort_keys=False), encoding="utf-8")
        result = chain.run(conf=[LOCAL, conf])
        assert stage(result, "score")["rows_out"] > 0, "a new order of steps must be scored"
        saved = yaml.safe_load((chain.workspace / "runs" / "latest" / "config.yaml").read_text(encoding="utf-8"))
        assert list(saved["score"]["rerank"]) == list(order)
