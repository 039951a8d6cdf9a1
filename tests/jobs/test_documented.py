"""The commands of docs/operations.md, as they stand there."""

from __future__ import annotations

from pathlib import Path

import pytest
from documented import Reader, commands, settings_of_ones_own
from support import DATE, Night


@pytest.mark.slow
def test_the_command_of_every_night_does_nothing_where_the_night_is_done(night: Night, tmp_path: Path) -> None:
    (command,) = commands("operations.md", "## Every night")
    assert "mine.yaml" in command and "2026-01-31" in command
    chain = night.chain.copy(tmp_path / "ws")
    places = {"inputs.root": str(chain.root), "workspace": str(chain.workspace)}
    mine = settings_of_ones_own(tmp_path / "mine.yaml", places)
    reader = Reader(tmp_path, {"mine.yaml": mine, "2026-01-31": DATE}, {})
    run = reader.start(command)
    assert run.ends(0)["status"] == "noop"
    assert any(line.startswith("nothing to do in") for line in run.said)
