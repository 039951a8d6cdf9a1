"""The next run removes what killed runs left, known by its name, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossweave.storage.litter import remove_drafts, remove_litter
from crossweave.storage.location import Location
from crossweave.storage.names import TEMPORARY, temporary

TOKEN = "0123456789abcdef0123456789abcdef"
RUN = "20260102T030405-pipeline-0a1b2c"
LITTER = (
    f"receipts/.ingest.json.{TOKEN}",
    f"runs/.latest.{TOKEN}",
    f"runs/{RUN}/.run_result.json.{TOKEN}",
    f"tensors/.5ebbb6b8ca44.{RUN}/items/part-0.parquet",
    "models/.9aef.new/model.json",
    "models/9aef/.model.safetensors.new",
    f"models/.9aef.{RUN}.old/model.json",
    "models/9aef/checkpoints/.step-000003.safetensors.new",
    "tables/catalog/_delta_log/_commit_5d1d.json.tmp",
    "tables/features/text-ab/_delta_log/00000000000000000003.json#1",
    f"encoders/.text.json.{TOKEN}",
    f".demo.{TOKEN}.tmp/items.parquet",
    f".demo.{TOKEN}.old/items.parquet",
    f"staging/{RUN}/events/part-0.parquet",
)
KEPT = (
    "receipts/ingest.json",
    f"runs/{RUN}/run_result.json",
    f"runs/{RUN}/log.jsonl",
    "tensors/5ebbb6b8ca44/manifest.json",
    "models/9aef/model.safetensors",
    "tables/catalog/_delta_log/00000000000000000003.json",
    f"tables/catalog/data/{TOKEN}/.part-0.parquet.{TOKEN}",
    "demo/items.parquet",
    ".lock",
    ".notes.old",
    f"mine/.draft.{TOKEN}",
)


def fill(workspace: Path, names: tuple[str, ...]) -> None:
    for name in names:
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def test_what_is_unfinished_goes_and_everything_else_stays(tmp_path: Path) -> None:
    fill(tmp_path, LITTER)
    fill(tmp_path, KEPT)
    (tmp_path / "runs" / f".latest.{TOKEN}").unlink()
    (tmp_path / "runs" / f".latest.{TOKEN}").symlink_to(RUN)
    assert (
        remove_litter(Location.of(tmp_path)) == len(LITTER) - 1
    )  # the staging folder is always cleared, and is not counted
    assert [name for name in LITTER if (tmp_path / name).is_symlink() or (tmp_path / name).exists()] == []
    assert [name for name in KEPT if not (tmp_path / name).exists()] == []
    assert remove_litter(Location.of(tmp_path)) == 0


def test_every_atomic_writer_s_unfinished_name_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def stops(self: Path, target: Path) -> Path:
        seen.append(self.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stops)
    with pytest.raises(KeyboardInterrupt):
        Location.of(tmp_path / "receipts" / "train.json").put("{}")
    assert TEMPORARY.match(seen[0])
    assert TEMPORARY.match(temporary(tmp_path / "x").name)
    assert remove_litter(Location.of(tmp_path)) == 1


def test_a_workspace_that_is_not_there_has_no_litter(tmp_path: Path) -> None:
    assert remove_litter(Location.of(tmp_path / "none")) == 0
    remove_drafts(tmp_path / "none" / "x", Location.of(tmp_path))


def test_drafts_beside_an_export_go_only_where_a_run_of_this_workspace_made_them(tmp_path: Path) -> None:
    workspace, out = tmp_path / "ws", tmp_path / "out"
    (workspace / "runs" / RUN).mkdir(parents=True)
    other = "20260102T030405-export-ffffff"
    fill(out, (f".lists.{RUN}/a", f".lists.{RUN}.old/a", f".lists.{other}/a", f".vectors.{RUN}/a", "lists/a"))
    remove_drafts(out / "lists", Location.of(workspace))
    assert sorted(path.name for path in out.iterdir()) == [f".lists.{other}", f".vectors.{RUN}", "lists"]
