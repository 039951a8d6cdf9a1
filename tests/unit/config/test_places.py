"""Which folders may be a workspace or take an export, asked before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crossweave.config import load_settings
from crossweave.config.load import REPOSITORY_CONF
from crossweave.config.places import check_places
from crossweave.errors import SettingsError


def check(workspace: object, **pairs: object) -> None:
    given = [f"{key.replace('__', '.')}={value}" for key, value in pairs.items()]
    check_places(load_settings([REPOSITORY_CONF / "local.yaml"], [f"workspace={workspace}", *given]))


def refusal(workspace: object, **pairs: object) -> str:
    with pytest.raises(SettingsError) as caught:
        check(workspace, **pairs)
    return caught.value.message


@pytest.mark.parametrize("folder", ["/", "/tmp", "/etc", "/usr/..", "/dev/shm/ws", "/proc/self/ws"])
def test_a_folder_of_the_system_is_no_workspace(folder: str) -> None:
    assert refusal(folder).startswith("workspace=")


def test_the_home_folder_and_those_above_it_are_no_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "people" / "me"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for folder in (home, home.parent, tmp_path):
        assert "your home folder" in refusal(folder)
    check(home / "ws")


def test_a_file_or_a_folder_below_one_is_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "ws"):
        assert f"{tmp_path / 'file'} is a file" in refusal(folder)


def test_links_in_a_circle_and_a_working_folder_that_is_gone_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert "leads nowhere" in refusal(tmp_path / "a")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "leads nowhere" in refusal("ws")


def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(odd)  # noqa: PTH102
    monkeypatch.chdir(os.fsdecode(odd))
    assert "not UTF-8" in refusal("ws")


def test_a_workspace_in_a_folder_that_is_read_as_input_is_refused(tmp_path: Path) -> None:
    items = tmp_path / "items"
    for folder in (items, items / "ws"):
        assert "inputs.items.path" in refusal(folder, inputs__items__path=items)
    check(tmp_path / "ws", inputs__items__path=items)
    check(tmp_path, inputs__items__path=items)  # an input in the workspace is the demo's


def test_an_export_never_replaces_the_workspace_its_rooms_the_input_or_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    workspace = tmp_path / "data" / "ws"
    for target in (
        workspace,
        tmp_path / "data",
        workspace / "tables",
        workspace / "models" / "x",
        workspace / "demo",
        workspace / "scored",
        workspace / "training",
        workspace / "encoders" / "x",
        tmp_path,
    ):
        assert "would replace" in refusal(workspace, export__path=target)
    check(workspace, export__path=workspace / "export")
    check(workspace, export__path=tmp_path / "out")


def test_places_in_a_store_stand_in_no_other_s_way(tmp_path: Path) -> None:
    shop = {"inputs__root": "s3://shop/in", "inputs__items__path": "s3a://shop/in/items"}
    for workspace in ("s3://shop/ws", "s3://ws", "s3://shop", "s3://shop/in/items-ws", "gs://shop/in/items", tmp_path):
        check(workspace, **shop)
    for workspace in ("s3://shop/in/items", "s3a://shop/in/items/ws/", "s3n://shop/x/../in/items"):
        assert "lies in inputs.items.path" in refusal(workspace, **shop)
    assert "lies in inputs.items.path" in refusal("s3://shop/ws", inputs__items__path="s3://shop")
    assert "lies in inputs.users.path" in refusal("hdfs://n:8020/a/ws", inputs__users__path="hdfs://n:8020/a")


def test_an_export_in_a_store_never_replaces_the_workspace_its_rooms_or_the_input() -> None:
    for target in (
        "s3://shop/ws",
        "s3a://shop/ws/tables/x",
        "s3://shop",
        "s3://shop/in",
        "s3n://shop/in/users.parquet",
    ):
        assert "would replace" in refusal(
            "s3://shop/ws",
            inputs__root="s3://shop/in",
            inputs__users__path="s3://shop/in/users.parquet",
            export__path=target,
        )
    assert "would replace all of that store" in refusal("s3://shop/ws", export__path="s3://out/")
    for target in ("s3://shop/ws/export", "s3://shop/ws-out", "s3://out/tables", "gs://shop/ws/tables"):
        check("s3://shop/ws", inputs__root="s3://shop/in", export__path=target)


@pytest.mark.parametrize("name", ["workspace", "inputs.root", "inputs.items.path", "inputs.blocks.path", "export.path"])
@pytest.mark.parametrize("url", ["s3:///ws", "hdfs://", "ftp://h/ws", "s3://key:secret@shop/ws", "gs://a b/ws"])
def test_a_url_that_leads_nowhere_is_refused_by_its_setting(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    with pytest.raises(SettingsError, match=f"^{name}: ") as caught:
        load_settings([REPOSITORY_CONF / "local.yaml"], [f"{name}={url}"])
    assert "secret" not in str(caught.value)


def test_a_relative_path_with_a_colon_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / "a:" / "ws") in refusal("a:/ws", inputs__items__path="a:/.")
