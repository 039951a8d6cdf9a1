"""What a Python user installs and calls."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crossweave import pipeline
from crossweave.config import Settings
from crossweave.errors import SettingsError

REPOSITORY = Path(__file__).resolve().parents[2]


def test_what_is_installed_has_the_default_settings_inside(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "egg_info", "-e", str(tmp_path), "build_py", "-d", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    code = (
        "import crossweave as c; from crossweave.config import load_settings; print(c.__file__, load_settings().seed)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, text=True,
                          capture_output=True, check=True)  # fmt: skip
    assert done.stdout.startswith(str(tmp_path))


def test_the_chain_is_run_by_a_call_which_refuses_settings_that_cannot_be_used(
    make_settings: Callable[..., Settings],
) -> None:
    with pytest.raises(SettingsError, match="unknown fusion"):
        pipeline.run(make_settings(model__fusion="no-such"))


def test_a_run_by_a_call_tells_of_its_failure(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    settings = make_settings("base.yaml", inputs__items__path=str(tmp_path / "none"))
    result = pipeline.run(settings, datetime.date(2026, 1, 2))
    assert (result.exit_code, result.status) == (3, "failed")
    assert result.place.is_file()
