"""Encoders that learn the catalog: what they learned is taken, kept, given up and collected, and nothing else is."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from support import Chain
from tiny import WORDS, tiny_bert, tiny_gpt

from crossweave.artifacts.learned import LEARNED, LearnedEncoder
from crossweave.config import load_settings
from crossweave.encoders import make_encoder
from crossweave.encoders.worker import Limits
from crossweave.errors import SettingsError
from crossweave.feeding.corpus import read_contents, read_taken
from crossweave.runtime.plan import plan_context
from crossweave.stages.collect import COLLECT
from crossweave.stages.embed import EMBED
from crossweave.stages.ingest import INGEST
from crossweave.stages.pretrain import PRETRAIN
from crossweave.stages.pretrain.corpus import CorpusWriter, Keeping, Wanted
from crossweave.stages.pretrain.learner import learners_of
from crossweave.storage.location import Location
from crossweave.tables.receipt_details import Evaluated, Scored, Tensors
from crossweave.tables.receipts import Receipt, Receipts
from crossweave.tables.vectors import from_arrow

ITEMS, USERS = 60, 40
TEXTS = 56  # of the items, two have none, two share one, and chance makes another two alike
STAGES = [INGEST, PRETRAIN, EMBED]
MASKED = {"objective": "masked", "batch": 8, "max_epochs": 2, "patience": 2, "learning_rate": 5e-3, "warmup_steps": 2}
FRESH = {"objective": "masked", "fresh": {}, "tune": {"method": "full"}}
TOOK = MASKED | {"objective": "behaviour", "own": {"items": 24}}


def put(root: Path) -> None:
    """Make a shop of two themes, whose users keep to one; some texts are empty, missing, or another item's too."""
    draw = np.random.default_rng(3)
    themes = (WORDS[5:9], WORDS[9:12])
    texts: list[str | None] = [" ".join(draw.choice(themes[n % 2], 5)) for n in range(ITEMS)]
    texts[0], texts[1], texts[2] = None, "", texts[3]
    root.mkdir()
    pq.write_table(pa.table({"item_id": [f"i{n}" for n in range(ITEMS)], "title": texts}), root / "items.parquet")
    rows = [(f"u{u}", f"i{i}") for u in range(USERS) for i in draw.choice(np.arange(u % 2, ITEMS, 2), 6, replace=False)]
    rows.append(("lonely", "i5"))
    users, items = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items}), root / "interactions.parquet")


def conf(folder: Path, encoder: dict[str, Any], steps: list[dict[str, Any]], **more: Any) -> list[Path]:
    """Write the settings of a shop with one text encoder that learns."""
    path = folder / "own.yaml"
    transformer = {"type": "transformer", "precision": "float32", "backend": "eager"}
    values = {
        "encoders": {"own": encoder if "type" in encoder else transformer | encoder},
        "modalities": {"text": {"kind": "text", "columns": ["title"], "encoder": "own"}},
        "pretrain": {"tasks": {"own": steps}, "held_out": 0.1, "row_group_rows": 16} | more,
    }
    path.write_text(json.dumps(values), encoding="utf-8")
    return [path]


@pytest.fixture
def chain(tmp_path: Path, spark: SparkSession) -> Chain:
    put(tmp_path / "in")
    return Chain(tmp_path / "ws", tmp_path / "in")


def learned_of(chain: Chain) -> Any:
    return Receipts(chain.workspace).required("pretrain").details


def encoder_in(chain: Chain, files: dict[str, Path]) -> Any:
    own = {"precision": "float32", "backend": "eager"} | {name: str(path) for name, path in files.items()}
    return make_encoder("text", "transformer", own)


@pytest.mark.slow
def test_embed_takes_what_an_encoder_learned_and_nothing_is_learned_twice(chain: Chain, tmp_path: Path) -> None:
    base = tiny_bert(tmp_path / "bert")
    given = conf(tmp_path, {"path": str(base)}, [MASKED, TOOK])
    first = chain.run(STAGES, conf=given)
    assert first["exit_code"] == 0, first["error"]
    details = learned_of(chain)
    assert details.used == {"own": details.last["own"].learned}
    for step, losses in (("own.1", "masked"), ("own.2", "behaviour")):
        figures = {name: first["metrics"][f"pretrain.{step}.{name}"] for name in ("first_loss", "best_loss", "learns")}
        assert figures["best_loss"] < figures["first_loss"], losses
        assert 0 < figures["learns"] < first["metrics"][f"pretrain.{step}.weights"]
    counted = next(entry for entry in first["stages"] if entry["name"] == "pretrain")
    # The texts in both steps; 41 users, one of whom took one item.
    assert (counted["rows_in"], counted["rows_out"], counted["skipped"]) == (2 * TEXTS + 41, 2 * TEXTS + 40, 1)

    # The vectors are those of the learned encoder, which is a model directory like any other.
    encoder = encoder_in(chain, LearnedEncoder.open(chain.workspace, details.used["own"]).places())
    assert encoder.fingerprint != encoder_in(chain, {"path": base}).fingerprint
    vectors = chain.table(f"features/text-{encoder.fingerprint[:16]}")
    given_titles = {row["item_id"]: row["title"] for row in pq.read_table(chain.root / "items.parquet").to_pylist()}
    held = [(dict(row["hashes"]).get("text"), given_titles[row["item_id"]]) for row in chain.table("catalog")]
    titles = {cell["content"]: title for cell, title in held if cell}
    encoder.load()
    values = [titles[row["content_hash"]] for row in vectors]
    expected = encoder.encode(encoder.prepare(values).examples)
    stored = from_arrow(pa.array([row["vector"] for row in vectors], pa.binary()), encoder.dim)
    np.testing.assert_allclose(stored, expected, atol=2e-3)

    assert chain.run(STAGES, conf=given)["status"] == "noop"
    later = chain.run([PRETRAIN], conf=given, date="2026-02-20")
    assert later["stages"][0]["notes"] == ["own learned because it learned 49 days ago"]
    assert learned_of(chain).used == details.used  # the same catalog and settings: found, not learned anew
    assert not list((chain.workspace / "training").rglob("*.parquet"))

    # Another last step takes the first one as it is.
    other = conf(tmp_path, {"path": str(base)}, [MASKED, TOOK | {"max_epochs": 1, "patience": 1}])
    chain.run([PRETRAIN], conf=other)
    assert len(list((chain.workspace / "learned").iterdir())) == 3

    # Collected is what nobody uses: the first step, once the last one is done, and not what could come back.
    chain.run([COLLECT], conf=other, gc__keep_days=0)
    kept = {LEARNED.place(chain.workspace, fingerprint).name for fingerprint in learned_of(chain).artifacts}
    assert {path.name for path in (chain.workspace / "learned").iterdir()} == kept


@pytest.mark.slow
def test_an_adapter_that_is_not_merged_is_put_on_the_weights_that_the_settings_name(chain: Chain, tmp_path: Path):
    base = tiny_gpt(tmp_path / "gpt")
    step = MASKED | {"objective": "causal", "tune": {"method": "ia3", "merge": False}}
    result = chain.run(STAGES, conf=conf(tmp_path, {"path": str(base)}, [step]))
    assert result["exit_code"] == 0, result["error"]
    places = LearnedEncoder.open(chain.workspace, learned_of(chain).used["own"]).places()
    assert places.keys() == {"adapter"}
    encoder = encoder_in(chain, {"path": base} | places)
    assert len(chain.table(f"features/text-{encoder.fingerprint[:16]}")) == TEXTS


@pytest.mark.slow
def test_what_the_gate_refused_gives_way_to_the_vectors_that_were_there(chain: Chain, tmp_path: Path) -> None:
    base = tiny_bert(tmp_path / "bert")
    given = conf(tmp_path, {"path": str(base)}, [MASKED])
    first = chain.run(STAGES, conf=given)
    receipts = Receipts(chain.workspace)
    (feature,) = receipts.required("embed").details.values()
    assert feature.learned == learned_of(chain).used["own"]

    def judge(run: str, table: str, *refused: str) -> None:
        """Leave what a night of tensors, score and evaluate leaves."""
        receipts.publish(Receipt("tensors", run, run, {table: 0}, {}, 0, Tensors()))
        receipts.publish(Receipt("score", run, run, {}, {}, 0, Scored()))
        receipts.publish(Receipt("evaluate", run, run, {}, {}, 0, Evaluated(judged=run, refused=list(refused))))

    judge(first["run_id"], "features/text-of-before", "ndcg@20 fell")  # lists of other vectors
    assert chain.run(STAGES, conf=given, date="2026-01-03")["status"] == "noop"
    assert learned_of(chain).last["own"].standing == "open"
    judge(first["run_id"], feature.table, "ndcg@20 fell")
    second = chain.run(STAGES, conf=given, date="2026-01-03")
    assert learned_of(chain).used == {}
    assert learned_of(chain).last["own"].standing == "refused"
    assert second["metrics"]["embed.text.encoded"] == TEXTS  # by the encoder as it came, whose vectors nobody had made
    judge(second["run_id"], receipts.required("embed").details["text"].table)
    assert chain.run(STAGES, conf=given, date="2026-01-04")["status"] == "noop"


@pytest.mark.slow
def test_a_fresh_model_learns_its_words_from_the_catalog_and_damage_is_named(chain: Chain, tmp_path: Path) -> None:
    fresh = {"width": 16, "layers": 1, "words": 300, "max_tokens": 24}
    given = conf(tmp_path, {}, [MASKED | {"fresh": fresh, "tune": {"method": "full"}, "max_epochs": 1}])
    assert chain.attempt([INGEST, EMBED], conf=given) == 2
    assert "run ./submit.sh pretrain first" in "\n".join(chain.said)
    assert chain.run(STAGES, conf=given)["exit_code"] == 0
    folder = LEARNED.place(chain.workspace, learned_of(chain).used["own"]).local
    assert {path.name for path in (folder / "model").iterdir()} >= {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }
    assert len(chain.features()["text"]) == TEXTS

    weights = folder / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert chain.attempt([EMBED], conf=given) == 3
    assert "model.safetensors is not the one that was written" in "\n".join(chain.said)
    shutil.rmtree(folder)
    assert chain.run(STAGES, conf=given)["exit_code"] == 0
    assert (folder / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_the_corpus_holds_every_text_once_and_what_users_took_of_them(chain: Chain, tmp_path: Path) -> None:
    base = tiny_bert(tmp_path / "bert")
    given = conf(tmp_path, {"path": str(base)}, [MASKED])
    chain.run([INGEST], conf=given)
    words = chain.words(given)
    settings = load_settings(given, [words[n + 1] for n, word in enumerate(words) if word == "--set"])
    context = plan_context(settings, datetime.date(2026, 1, 2))
    encoder = learners_of(settings)["own"].encoders(settings)["text"]
    wanted_of = Wanted({"text": Keeping(encoder, None, Limits(False, 30, 512))}, histories=True)
    writer = CorpusWriter(context, context.receipts.required("ingest"), ["text"])
    corpus = writer.write(Location.of(tmp_path / "corpus"), "f" * 64, wanted_of)
    texts, taken = read_contents(corpus), read_taken(corpus)

    def decode(kept: bytes) -> str:
        return str(encoder.tokenizer.decode(np.frombuffer(kept, np.int32), skip_special_tokens=True))

    titles = [row["title"] for row in pq.read_table(chain.root / "items.parquet").to_pylist()]
    wanted = {title for title in titles if title}
    decoded = [decode(ids) for ids in texts.values]
    assert sorted(decoded) == sorted(wanted)
    assert corpus.contents == len(wanted)
    assert texts.held_out_R.sum() == len(decoded) // 10

    took: dict[str, set[str]] = {}
    for row in chain.table("history"):
        if row["split"] == "train" and (title := titles[int(row["item_id"][1:])]):
            took.setdefault(row["user_id"], set()).add(title)
    expected = sorted(sorted(mine) for mine in took.values() if len(mine) > 1)
    assert sorted(sorted(decoded[text] for text in mine) for mine in taken.values) == expected
    assert 0 < taken.held_out_R.sum() < len(expected)

    # Nobody learns from withheld items: the same shop with half of it cold.
    cold = {f"i{n}" for n in range(0, ITEMS, 2)}
    rows = pq.read_table(chain.root / "items.parquet")
    flags = pa.array([item in cold for item in rows["item_id"].to_pylist()])
    pq.write_table(rows.append_column("cold", flags), chain.root / "items.parquet")
    withheld = {"inputs__items__cold_column": "cold", "split__protocol": "cold"}
    chain.run([INGEST], conf=given, **withheld)
    words = chain.words(given, **withheld)
    settings = load_settings(given, [words[n + 1] for n, word in enumerate(words) if word == "--set"])
    context = plan_context(settings, datetime.date(2026, 1, 2))
    writer = CorpusWriter(context, context.receipts.required("ingest"), ["text"])
    parted = writer.write(Location.of(tmp_path / "cold"), "c" * 64, wanted_of)
    of_warm = {title for n, title in enumerate(titles) if title and f"i{n}" not in cold}
    read = [decode(ids) for ids in read_contents(parted).values]
    assert sorted(read) == sorted(wanted)
    learned = {read[text] for mine in read_taken(parted).values for text in mine}
    assert learned <= of_warm
    assert len(learned) > len(of_warm) / 2

    # Ranks share the texts between them, and a second start finds the corpus.
    parts = [read_contents(corpus, rank, 2).values for rank in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(texts.values)
    assert min(map(len, parts)) >= len(decoded) // 2 - 1
    assert writer.write(corpus.folder, "f" * 64, Wanted({})) == corpus


@pytest.mark.parametrize(
    ("encoder", "steps", "said"),
    [
        ({"path": "BERT"}, [{"objective": "causal"}], "needs a decoder"),
        ({"path": "GPT"}, [{"objective": "masked"}], "is a decoder"),
        ({"path": "BERT"}, [{"objective": "maskd"}], "maskd"),
        ({"path": "BERT"}, [{"objective": "masked", "own": {"share": 2}}], "share"),
        ({"path": "BERT", "adapter": "BERT"}, [{"objective": "masked"}], "has an adapter already"),
        ({"path": "BERT"}, [{"objective": "masked", "fresh": {}, "tune": {"method": "full"}}], "has a path"),
        ({"type": "hashing", "dim": 16}, [{"objective": "masked"}], "cannot learn the catalog"),
        ({"path": "BERT"}, [{"objective": "masked", "max_tokens": 999}], "reads at most 32"),
        ({"path": "BERT"}, [{"objective": "behaviour", "tune": {"method": "prefix"}}], "prefix needs a decoder"),
        ({"type": "hashing"}, [FRESH], "cannot learn the catalog"),
        ({"pooling": "none"}, [FRESH], "pooling"),
        ({}, [FRESH | {"max_tokens": 999}], "of a model of 128"),
        ({}, [FRESH | {"objective": "causal"}], "needs a decoder"),
        ({"path": "PICKLED"}, [{"objective": "masked"}], "pickled weights only"),
        ({"path": "NOWHERE"}, [{"objective": "masked"}], "there is no directory"),
    ],
)
def test_what_cannot_learn_is_refused_before_anything_runs(
    encoder: dict[str, Any], steps: list[dict[str, Any]], said: str, tmp_path: Path
) -> None:
    folders = {"BERT": tiny_bert(tmp_path / "bert"), "GPT": tiny_gpt(tmp_path / "gpt"), "NOWHERE": tmp_path / "none"}
    folders["PICKLED"] = shutil.copytree(folders["BERT"], tmp_path / "pickled")
    (folders["PICKLED"] / "model.safetensors").rename(folders["PICKLED"] / "pytorch_model.bin")
    named = {key: str(folders.get(value, value)) if isinstance(value, str) else value for key, value in encoder.items()}
    path = conf(tmp_path, named, steps)[0]
    with pytest.raises(SettingsError, match=said):
        PRETRAIN.check(load_settings([path]))


def test_tasks_of_encoders_that_nobody_reads_are_refused(tmp_path: Path) -> None:
    path = conf(tmp_path, {"path": str(tiny_bert(tmp_path / "bert"))}, [MASKED])[0]
    for wrong, said in (("nobody", "does not define"), ("spare", "no modality is encoded by it")):
        given = [f"pretrain.tasks={{{wrong}: [{{objective: masked}}]}}", "encoders.spare={type: hashing}"]
        with pytest.raises(SettingsError, match=said):
            PRETRAIN.check(load_settings([path], given))
