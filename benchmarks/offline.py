"""What the measuring scripts of quality share: one model trained in this process, its rankings judged, the rows kept.

They read a workspace whose tensors stage has run, under the warm protocol, the cold one or both; no Spark is started.
One rank takes the batch of all ranks, so that a figure does not depend on how many there are.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import math
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bench
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import torch
from scipy.sparse import csr_matrix

from crossweave.alignment.blend import Blend, together
from crossweave.alignment.histories import Histories
from crossweave.alignment.model import AlignmentModel
from crossweave.alignment.store import load_weights
from crossweave.alignment.user_parts import UNKNOWN, UserBatch
from crossweave.config import Settings, load_settings, override
from crossweave.evaluation.metrics import Relevance, ranking_metrics
from crossweave.feeding.factors import spark_als
from crossweave.feeding.interactions import Interactions, read_interactions
from crossweave.feeding.items import ItemTensors, open_items
from crossweave.feeding.manifest import Manifest, load_manifest
from crossweave.scoring.neighbours import nearest_items
from crossweave.scoring.topk import PAD, top_k
from crossweave.scoring.users import beyond_product, read_users
from crossweave.stages.train.fitting import fit_teacher
from crossweave.storage.location import Location
from crossweave.storage.records import digest
from crossweave.tables.store import TableStore
from crossweave.tables.user_attributes import FIRST_VALUE, MISSING, OTHER
from crossweave.training.blending import fit_blend
from crossweave.training.collective import Collective
from crossweave.training.item_tower import all_items
from crossweave.training.loop import train
from crossweave.training.planning import blend_plan, training_plan

K = 20
USERS_AT_ONCE = 1024
PROTOCOLS = ("warm", "cold")
Change = Callable[[ItemTensors], ItemTensors]


@dataclass(frozen=True)
class Side:
    """One protocol of a workspace: its tensors, and what is known and asked of each judged user."""

    protocol: str
    manifest: Manifest
    items: ItemTensors
    interactions: Interactions
    users: list[str]
    who: UserBatch
    histories: list[np.ndarray]  # training items, oldest first
    seen: list[np.ndarray]  # not to be recommended
    relevant: list[np.ndarray]
    item_ids: np.ndarray


@dataclass(frozen=True)
class Variant:
    """One row of a table: settings and content that differ, and whose scores are judged."""

    name: str
    values: Mapping[str, Any]  # setting -> value
    change: Change = lambda items: items
    changed: str = ""  # names the change, where there is one
    neural: bool = True
    blended: bool = True  # False: only the neural figures are worked out, which takes half the time


def parser(description: str) -> argparse.ArgumentParser:
    """The words that all scripts take."""
    words = argparse.ArgumentParser(description=description)
    words.add_argument("--conf", action="append", default=[], help="settings over conf/base.yaml, as for submit.sh")
    words.add_argument("--set", action="append", default=[], dest="pairs", metavar="KEY=VALUE")
    words.add_argument("--workspace", type=Path, required=True, help="its tables, and tensors of one or both protocols")
    words.add_argument("--protocols", default="warm,cold")
    words.add_argument("--epochs", type=int, help="of every training; default: train.max_epochs")
    words.add_argument("--only", nargs="*", default=[], metavar="NAME", help="only these rows")
    words.add_argument("--rows-file", type=Path, help="JSON lines of finished rows: an interrupted sweep goes on")
    words.add_argument("--work", type=Path, help="folder of the trained models; default: WORKSPACE/offline")
    words.add_argument("--out", type=Path, help="where the table goes; default: benchmarks/results")
    words.add_argument("--lists", type=Path, help="folder for the recommendations of every row, as Parquet")
    return words


def settings_of(given: argparse.Namespace) -> Settings:
    """The settings of the command line."""
    epochs = [f"train.max_epochs={given.epochs}"] if given.epochs else []
    return load_settings(given.conf, [*given.pairs, f"workspace={given.workspace}", *epochs])


def open_side(workspace: Path, protocol: str) -> Side:
    """Read the tensors and the truth of one protocol; the newest tensor set of it counts."""
    found = [m for path in (workspace / "tensors").iterdir() if (m := load_manifest(path)) is not None]
    sets = {("warm" if open_items(m).candidate_N.all() else "cold"): m for m in sorted(found, key=_written)}
    if protocol not in sets:
        raise SystemExit(f"{workspace} has no tensors of the {protocol} protocol: run ./submit.sh tensors for it")
    manifest = sets[protocol]
    store = TableStore(workspace / "tables")
    index = _table(store, "item_index", ["item_id", "item_index"]).sort_values("item_index")
    cold = _table(store, "catalog", ["item_id", "cold"]).merge(index, on="item_id")
    events = _table(store, "interactions", ["user_id", "item_id", "split", "event_time"])
    events = events.merge(cold, on="item_id").drop_duplicates(["user_id", "item_index"])
    if protocol == "warm":
        relevant, known = events["split"] == "test", events["split"] != "test"
    else:
        relevant, known = events["cold"], ~events["cold"] & (events["split"] != "test")
    wanted = _lists(events[relevant].sort_values(["user_id", "item_index"]))
    known_by = _lists(events[known])
    in_order = events[known & (events["split"] == "train")].sort_values(
        ["user_id", "event_time", "item_index"], na_position="first"
    )
    history = _lists(in_order)
    users, nothing = sorted(wanted), np.empty(0, np.int64)
    return Side(
        protocol,
        manifest,
        open_items(manifest),
        read_interactions(manifest),
        users,
        _who(store, manifest, users, sorted(history)),
        [history.get(user, nothing) for user in users],
        [known_by.get(user, nothing) for user in users],
        [wanted[user] for user in users],
        index["item_id"].to_numpy(),
    )


def _who(store: TableStore, manifest: Manifest, users: list[str], trained: list[str]) -> UserBatch:
    """What the tensors stage says of these users: trained ones are numbered in the order of their ids."""
    if len(trained) != manifest.users:
        raise SystemExit(f"the tensors know {manifest.users} users, the tables {len(trained)}: run ./submit.sh tensors")
    place = {user: index for index, user in enumerate(trained)}
    table = _table(store, "users", ["user_id", "attributes"])
    known = {user: dict(values) for user, values in zip(table["user_id"], table["attributes"], strict=True)}
    codes = {name: {v: FIRST_VALUE + n for n, v in enumerate(values)} for name, values in manifest.attributes.items()}

    def code(user: str, name: str) -> int:
        value = known.get(user, {}).get(name)
        return MISSING if value is None else codes[name].get(value, OTHER)

    attributes = np.array([[code(user, name) for name in codes] for user in users], np.int64)
    index = np.array([place.get(user, UNKNOWN) for user in users])
    return UserBatch.from_arrays(index, attributes.reshape(len(users), len(codes)))


@functools.cache
def _session() -> Any:
    return bench.spark(2)


def factorise(seen_UN: csr_matrix, **settings: Any) -> np.ndarray:
    """Item factors by Spark ML, on a session that is started where a variant asks for them."""
    return spark_als(_session(), Location.of(tempfile.mkdtemp()), seen_UN, **settings)


def neighbours(item_ND: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Nearest items of all items, in this process: the kernel is that of the workers."""
    return nearest_items(item_ND, 0, len(item_ND), k)


WORKERS: dict[str, Callable[..., Any]] = {"factorise": factorise, "neighbours": neighbours}


def measure(variant: Variant, side: Side, settings: Settings, work: Path, lists: Path | None = None) -> dict[str, Any]:
    """Train what a variant asks for, rank, and judge; a training that is there is not repeated."""
    start = time.monotonic()
    own = override(settings, variant.values, variant.name)
    items = variant.change(side.items)
    model = fitted(own, side, items, variant.changed, work)
    blend = Blend([])
    if variant.blended:
        blend = Blend(fit_blend(blend_plan(own, WORKERS), model, items, side.interactions).members)
    best_UK = rank(side, model, items, blend, variant.neural)
    if lists is not None:
        _write_lists(side, best_UK, lists / f"{variant.name}-{side.protocol}.parquet".replace(" ", "_"))
    figures: dict[str, Any] = _judged(side, best_UK) if variant.blended else {}
    if variant.neural:
        alone = _judged(side, rank(side, model, items, Blend([])) if variant.blended else best_UK)
        figures |= {f"neural {name}": value for name, value in alone.items()}
    figures["weights"] = ", ".join(f"{member.name} {member.weight:.3g}" for member in blend.members)
    return figures | {"seconds": round(time.monotonic() - start, 1)}


def _judged(side: Side, best_UK: np.ndarray) -> dict[str, float]:
    values = ranking_metrics(best_UK, Relevance.from_lists(side.relevant), [K], ("ndcg", "recall"))
    return {name: float(per_user.mean()) for name, per_user in values.items()}


def fitted(settings: Settings, side: Side, items: ItemTensors, changed: str, work: Path) -> AlignmentModel:
    """Return the neural model of these settings on these items, trained or found in `work`."""
    manifest = replace(side.manifest, modalities={n: side.manifest.modalities[n] for n in items.vectors})
    plan = training_plan(settings, manifest, work, work, side.protocol)
    facts = [manifest.fingerprint, plan.spec.as_json(), settings.train.model_dump(mode="json"), settings.seed, changed]
    folder = work / digest(facts)[:16]
    if not (folder / "model.safetensors").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        plan = replace(
            plan,
            folder=folder,
            progress=folder / "training.jsonl",
            ranks=1,
            batch_users=plan.batch_users * plan.ranks,
            learning_rate=plan.learning_rate * math.sqrt(plan.ranks),
            teacher=fit_teacher(plan.spec, manifest, Location.of(folder), factorise, settings.seed),
        )
        train(plan, _collective(), items)
    return load_weights(plan.spec, folder / "model.safetensors")


@torch.inference_mode()
def rank(side: Side, model: AlignmentModel, items: ItemTensors, blend: Blend, neural: bool = True) -> np.ndarray:
    """Return the K best candidates of every judged user, int64 [U, K]; without `neural` by the blend alone."""
    vectors = all_items(model, items)
    targets = model.targets(vectors)
    allowed_N = torch.from_numpy(np.array(items.candidate_N))
    best = []
    for start in range(0, len(side.users), USERS_AT_ONCE):
        part = slice(start, start + USERS_AT_ONCE)
        histories = Histories.from_lists(side.histories[part])
        who = UserBatch(side.who.index_B[part], side.who.attributes_BA[part])
        users = read_users(model, vectors.history_SD, histories, who)
        rest = beyond_product(model, users, targets) if neural else None
        scale = 1.0 if neural else 0.0
        best.append(
            top_k(
                users.vector_BE * scale,
                targets.item_SE,
                targets.bias_S * scale,
                K,
                allowed_N=allowed_N,
                masked=side.seen[part],
                addition=together(rest, blend.additions(histories)),
            ).items_UK
        )
    return np.concatenate(best)


def without(name: str) -> Change:
    """Return what takes a modality out of the items."""

    def change(items: ItemTensors) -> ItemTensors:
        kept = [other for other in items.vectors if other != name]
        place = [list(items.vectors).index(other) for other in kept]
        return replace(items, vectors={n: items.vectors[n] for n in kept}, present_NM=items.present_NM[:, place])

    return change


class Rows:
    """The finished rows of a sweep, one JSON line each, found again by what decides them."""

    def __init__(self, path: Path | None, script: str) -> None:
        self._path, self._script = path, script
        self._given: list[dict[str, Any]] = []
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.is_file() else []
        self._known = {row["key"]: row for row in map(json.loads, lines) if row["script"] == script}

    def get(self, name: str, facts: Sequence[Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the row of this name and these facts, worked out or found."""
        key = digest([self._script, name, *facts])[:16]
        if key not in self._known:
            row = {"script": self._script, "key": key, "name": name, **work()}
            self._known[key] = row
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
        row = self._known[key]
        print({name: value for name, value in row.items() if name not in ("script", "key")}, flush=True)
        return row


def run_variants(
    script: str, given: argparse.Namespace, variants: Sequence[Variant], settings: Settings
) -> list[dict[str, Any]]:
    """Measure the chosen variants under every protocol; one dict a variant, its figures by protocol."""
    rows, work = Rows(given.rows_file, script), given.work or given.workspace / "offline"
    chosen = [variant for variant in variants if not given.only or variant.name in given.only]
    unknown = set(given.only) - {variant.name for variant in variants}
    if unknown:
        names = "\n  ".join(variant.name for variant in variants)
        raise SystemExit(f"no row is called {', '.join(sorted(unknown))}; there are\n  {names}")
    if given.lists is not None:
        given.lists.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, Any]] = {variant.name: {"name": variant.name} for variant in chosen}
    for protocol in given.protocols.split(","):
        side = open_side(given.workspace, protocol)
        for variant in chosen:
            own = override(settings, variant.values, variant.name)
            decides = own.model_dump(mode="json", include={"model", "train", "seed"})
            flags = [variant.changed, variant.neural, variant.blended]
            work_out = functools.partial(measure, variant, side, settings, work, given.lists)
            facts = [side.manifest.fingerprint, decides, *flags]
            table[variant.name][protocol] = rows.get(f"{variant.name}, {protocol}", facts, work_out)
    return list(table.values())


def figures(row: Mapping[str, Any], names: Sequence[str] = (f"ndcg@{K}", f"recall@{K}")) -> list[str]:
    """Figures of both protocols by their names, as cells of a table; empty where a row has none."""
    parts = [row.get(protocol, {}) for protocol in PROTOCOLS]
    return [f"{part[name]:.4f}" if name in part else "" for part in parts for name in names]


Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Its head, and its lines."""


def keep_table(name: str, given: argparse.Namespace, title: str, notes: Sequence[str], tables: Sequence[Table]) -> None:
    """Print tables and write them to results/NAME.md with the command that made them."""
    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, torch {torch.__version__}"
    today = datetime.datetime.now(datetime.UTC).date()
    words = [re.sub(r"(^|=)/\S*/", r"\1", word) for word in sys.argv[1:]]  # the folders of this machine tell nobody
    command = " ".join(["python", f"benchmarks/{name}.py", *words])
    text = [f"# {title}", "", f"{today}, {machine}.", "", "```", command, "```", "", *notes]
    for head, lines in tables:
        text += ["", f"| {' | '.join(head)} |", f"|{'|'.join('---' for _ in head)}|"]
        text += [f"| {' | '.join(cells)} |" for cells in lines]
    folder = given.out or bench.RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


_GROUP: list[Collective] = []


def _collective() -> Collective:
    if not _GROUP:
        _GROUP.append(Collective())
    return _GROUP[0]


def _written(manifest: Manifest) -> float:
    return manifest.folder.local.stat().st_mtime


def _table(store: TableStore, name: str, columns: list[str]) -> pd.DataFrame:
    return ds.dataset(store.required(name).paths).to_table(columns=columns).to_pandas()


def _lists(events: pd.DataFrame) -> dict[str, np.ndarray]:
    return {str(user): part.to_numpy(np.int64) for user, part in events.groupby("user_id", sort=False)["item_index"]}


def _write_lists(side: Side, best_UK: np.ndarray, path: Path) -> None:
    row, place = np.nonzero(best_UK != PAD)
    frame = pd.DataFrame(
        {
            "user_id": np.asarray(side.users)[row],
            "item_id": side.item_ids[best_UK[row, place]],
            "rank": place.astype(np.int32) + 1,
        }
    )
    frame.to_parquet(path, index=False)
