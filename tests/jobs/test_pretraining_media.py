"""Pictures, pairs, autoencoders and students in one chain: who learns from whom, what is counted, what is embedded."""

from __future__ import annotations

import datetime
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql import SparkSession
from support import Chain
from tiny import WORDS, tiny_bert, tiny_vae
from trainable import PLAIN, make_shufflenet

from crossweave.artifacts.learned import LearnedEncoder
from crossweave.config import load_settings
from crossweave.encoders import make_encoder
from crossweave.encoders.worker import Limits
from crossweave.errors import SettingsError
from crossweave.feeding.corpus import read_contents
from crossweave.pretraining.kept import KeptPictures
from crossweave.runtime.plan import plan_context
from crossweave.stages.embed import EMBED
from crossweave.stages.ingest import INGEST
from crossweave.stages.pretrain import PRETRAIN
from crossweave.stages.pretrain.corpus import Aiming, CorpusWriter, Keeping, Wanted
from crossweave.stages.pretrain.learner import learners_of
from crossweave.storage.location import Location
from crossweave.tables.receipts import Receipts
from crossweave.tables.vectors import from_arrow

ITEMS = 40
STAGES = [INGEST, PRETRAIN, EMBED]
QUICK = {"batch": 8, "max_epochs": 1, "learning_rate": 1e-3, "warmup_steps": 1}
FULL = {"tune": {"method": "full"}}
DISTILLED = QUICK | FULL | {"objective": "distilled", "student": {"layers": 1, "neurons": 0.5}}
CONTRASTIVE = QUICK | {"objective": "contrastive", "tune": {"method": "lora"}}
PAIRED = QUICK | {"objective": "paired", "own": {"modality": "text", "width": 8}, "tune": {"method": "last"}}
FRESH = QUICK | FULL | {"objective": "masked", "fresh": {}}
TAUGHT = QUICK | FULL | {"objective": "distilled"}
REBUILT = (
    QUICK | FULL | {"objective": "rebuilt", "fresh": {"family": "vae", "side": 16, "channels": [4, 6], "latent": 5}}
)
LIMITS = Limits(True, 30, 1024)


def scene(number: int) -> bytes:
    """Draw a picture of one of two kinds; JPEG, PNG and WEBP in turn."""
    draw = np.random.default_rng(number)
    small = draw.integers(0, 120, (3, 3, 3)) + (0, 120)[number % 2]
    stream = io.BytesIO()
    form = ("JPEG", "PNG", "WEBP")[number % 3]
    Image.fromarray(small.astype(np.uint8)).resize((60, 50), Image.Resampling.NEAREST).save(stream, form)
    return stream.getvalue()


def put(root: Path) -> tuple[list[str | None], list[bytes | None]]:
    """Make a shop of two themes, with pictures that are missing, broken or another item's too, and a missing text."""
    draw = np.random.default_rng(3)
    themes = (WORDS[5:9], WORDS[9:12])
    texts: list[str | None] = [" ".join(draw.choice(themes[n % 2], 5)) + f" s{' s' * n}" for n in range(ITEMS)]
    images: list[bytes | None] = [scene(n) for n in range(ITEMS)]
    images[4], images[5], images[7], texts[9] = None, b"no picture", images[8], None
    root.mkdir()
    columns = {"item_id": [f"i{n:02}" for n in range(ITEMS)], "title": texts, "image": images}
    pq.write_table(pa.table(columns), root / "items.parquet")
    rows = [(f"u{u}", f"i{i:02}") for u in range(30) for i in draw.choice(np.arange(u % 2, ITEMS, 2), 6, replace=False)]
    users, items = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items}), root / "interactions.parquet")
    return texts, images


def conf(folder: Path, tasks: dict[str, list[dict[str, Any]]], **more: Any) -> list[Path]:
    """Write the settings of a shop with an encoder of texts, one of pictures, and one of thumbnails."""
    pics = make_shufflenet(folder / "net")
    values = {
        "encoders": {
            "words": {"type": "transformer", **PLAIN}
            | ({} if tasks.get("words") == [FRESH] else {"path": str(tiny_bert(folder / "bert"))}),
            "small": {"type": "vae", "path": str(tiny_vae(folder / "small"))},
            "pics": {"type": "torchvision", **pics.settings.model_dump(mode="json", exclude_defaults=True), **PLAIN},
            "thumbs": {"type": "vae", **PLAIN} | ({} if "thumbs" in tasks else {"path": str(tiny_vae(folder / "vae"))}),
        },
        "modalities": {
            "text": {"kind": "text", "columns": ["title"], "encoder": "words"},
            "image": {"kind": "image", "columns": ["image"], "encoder": "pics"},
            "thumb": {"kind": "image", "columns": ["image"], "encoder": "thumbs"},
        },
        "pretrain": {"tasks": tasks, "held_out": 0.2, "row_group_rows": 16} | more,
    }
    path = folder / "own.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return [path]


def settings_of(chain: Chain, given: list[Path]) -> Any:
    words = chain.words(given)
    return load_settings(given, [words[n + 1] for n, word in enumerate(words) if word == "--set"])


@pytest.mark.slow
def test_every_kind_learns_in_its_turn_and_embed_takes_it(spark: SparkSession, tmp_path: Path) -> None:
    texts, images = put(tmp_path / "in")
    chain = Chain(tmp_path / "ws", tmp_path / "in")
    tasks = {"pics": [CONTRASTIVE, PAIRED], "thumbs": [REBUILT], "words": [DISTILLED]}
    given = conf(tmp_path, tasks)
    result = chain.run(STAGES, conf=given)
    assert result["exit_code"] == 0, result["error"]

    def counted(what: str, side: str) -> float:
        return float(result["metrics"][f"pretrain.{what}.contents.{side}"])

    distinct = ITEMS - 2  # none, and one twice; one of them cannot be read
    assert (counted("pics.1", "rows_in"), counted("pics.1", "rows_out")) == (distinct, distinct - 1)
    assert counted("pics.1", "skipped") == 1
    assert counted("pics.2", "rows_out") == distinct - 2  # and one has no text
    assert counted("thumbs.1", "rows_out") == distinct - 1
    assert counted("words.1", "rows_out") == ITEMS - 1

    known = Receipts(chain.workspace).required("pretrain").details
    assert known.used.keys() == tasks.keys()
    files = {name: LearnedEncoder.open(chain.workspace, used).places() for name, used in known.used.items()}
    config = json.loads((files["words"]["path"] / "config.json").read_text(encoding="utf-8"))
    assert (config["num_hidden_layers"], config["intermediate_size"]) == (1, 16)
    assert files["pics"].keys() == {"weights"}
    assert {path.name for path in files["thumbs"]["path"].iterdir()} == {"vae.json", "model.safetensors"}

    # The vectors are those of what was learned.
    settings = settings_of(chain, given)
    values: dict[str, list[Any]] = {"text": texts, "image": images, "thumb": images}
    for modality, found in values.items():
        spec = settings.encoders[settings.modalities[modality].encoder]
        name = settings.modalities[modality].encoder
        encoder = make_encoder(settings.modalities[modality].kind, spec.type, spec.own, places=files[name])
        encoder.load()
        good = [value for value in found if value not in (None, b"no picture")]
        wanted = encoder.encode(encoder.prepare(list(dict.fromkeys(good))).examples)
        rows = chain.table(f"features/{modality}-{encoder.fingerprint[:16]}")
        stored = from_arrow(pa.array([row["vector"] for row in rows], pa.binary()), encoder.dim)
        assert len(rows) == len(wanted)
        by_norm = [part[np.lexsort(part.T.round(2))] for part in (wanted, stored)]
        np.testing.assert_allclose(np.sort(by_norm[0].sum(1)), np.sort(by_norm[1].sum(1)), rtol=2e-2, atol=2e-2)

    assert chain.run(STAGES, conf=given)["status"] == "noop"

    # Who learns from an encoder that learns anew, learns anew as well, after it.
    other = conf(tmp_path, tasks | {"words": [DISTILLED | {"batch": 4}]})
    context = plan_context(settings_of(chain, other), datetime.date(2026, 1, 2))
    assert set(PRETRAIN.basis(context).due) == {"words", "pics"}
    old = plan_context(settings_of(chain, given), datetime.date(2026, 2, 20))
    assert set(PRETRAIN.basis(old).due) == tasks.keys()


@pytest.mark.slow
def test_beside_a_picture_stands_the_vector_of_its_first_item_s_text(spark: SparkSession, tmp_path: Path) -> None:
    texts, images = put(tmp_path / "in")
    chain = Chain(tmp_path / "ws", tmp_path / "in")
    given = conf(tmp_path, {"pics": [PAIRED]}, most_contents=30)
    chain.run([INGEST], conf=given)
    settings = settings_of(chain, given)
    context = plan_context(settings, datetime.date(2026, 1, 2))
    pics = learners_of(settings)["pics"].encoders(settings)["image"]
    words = make_encoder("text", "transformer", settings.encoders["words"].own)
    kept, aimed = {"image": Keeping(pics, None, LIMITS)}, {"text": Aiming(words, None, LIMITS, "cpu")}
    writer = CorpusWriter(context, context.receipts.required("ingest"), ["image"])
    corpus = writer.write(Location.of(tmp_path / "corpus"), "f" * 64, Wanted(kept, aimed, "text"))
    rows = read_contents(corpus)
    assert rows.targets is not None
    assert 27 <= len(rows.values) <= 30 < corpus.contents

    partner: dict[bytes, str] = {}
    for text, image in zip(texts, images, strict=True):
        if text is not None and image is not None:
            partner.setdefault(image, text)
    small = KeptPictures(pics)
    by_kept = {small.prepare([image]).examples[0]: text for image, text in partner.items() if image != b"no picture"}
    words.load()
    wanted = words.encode(words.prepare([by_kept[value] for value in rows.values]).examples)
    np.testing.assert_allclose(rows.targets, wanted, atol=1e-5)
    assert len(np.unique(wanted.round(4), axis=0)) == len(wanted)  # any other order would be seen

    # A second writer draws the same contents.
    again = writer.write(Location.of(tmp_path / "again"), "e" * 64, Wanted(kept, aimed, "text"))
    assert read_contents(again).values == rows.values


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ({"pics": [PAIRED | {"own": {"modality": "image"}}]}, "there is no other modality 'image'"),
        ({"pics": [PAIRED | {"own": {"modality": "thum"}}]}, "there is no other modality 'thum'"),
        ({"pics": [PAIRED | {"own": {}}]}, "modality: Field required"),
        ({"pics": [QUICK | {"objective": "masked"}]}, "cannot learn by objective masked"),
        ({"pics": [QUICK | {"objective": "rebuilt"}]}, "cannot learn by objective rebuilt"),
        ({"words": [CONTRASTIVE]}, "cannot learn by objective contrastive"),
        ({"words": [QUICK | {"objective": "distilled"}]}, "needs a student or a teacher"),
        ({"words": [QUICK | {"objective": "distilled", "own": {"teacher": "words"}}]}, "no other encoder 'words'"),
        ({"words": [QUICK | {"objective": "distilled", "own": {"teacher": "pics"}}]}, "does not exist for kind 'text'"),
        ({"pics": [CONTRASTIVE | {"tune": {"merge": False}}]}, "adapter beside the weights is for texts"),
        ({"pics": [CONTRASTIVE | {"max_tokens": 8}]}, "max_tokens is for texts"),
        ({"pics": [CONTRASTIVE | {"gradient_checkpointing": True}]}, "is for transformers"),
        ({"pics": [CONTRASTIVE | FULL | {"fresh": {"family": "vae"}}]}, "cannot begin with a fresh vae"),
        ({"pics": [CONTRASTIVE | {"tune": {"method": "ia3"}}]}, "ia3 does not fit"),
        ({"pics": [CONTRASTIVE | {"student": {"layers": 1}}]}, "does not say how many"),
        ({"words": [DISTILLED | {"student": {"layers": 5}}]}, "the model has 2, 5 were to be kept"),
        ({"words": [DISTILLED | {"tune": {"method": "lora", "merge": False}}]}, "does not fit a student"),
        ({"pics": [TAUGHT | {"own": {"teacher": "words"}}], "words": [FRESH]}, "for contents of another kind"),
        ({"pics": [TAUGHT | {"own": {"teacher": "small", "relations": 0}}]}, "by relations alone"),
        ({"thumbs": [REBUILT | {"fresh": {}}]}, "cannot begin with a fresh bert"),
        ({"thumbs": [REBUILT | {"fresh": {"family": "vae", "side": 20}}]}, "cannot be halved"),
        (
            {
                "words": [PAIRED | {"own": {"modality": "image"}}],
                "pics": [PAIRED],
            },
            "in a circle",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    tasks: dict[str, list[dict[str, Any]]], said: str, tmp_path: Path
) -> None:
    given = conf(tmp_path, tasks)
    with pytest.raises(SettingsError, match=said):
        PRETRAIN.check(load_settings(given))
