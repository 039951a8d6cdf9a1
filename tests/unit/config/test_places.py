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
        tmp_path,
    ):
        assert "would replace" in refusal(workspace, export__path=target)
    check(workspace, export__path=workspace / "export")
    check(workspace, export__path=tmp_path / "out")
