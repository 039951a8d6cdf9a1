"""The commands of docs/operations.md, as they stand there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import documented
import pytest
import yaml
from support import DATE, REPOSITORY, TINY, Night

from crossweave.config.load import nested
from crossweave.config.plain import merged


@pytest.mark.slow
def test_the_command_of_every_night_does_nothing_where_the_night_is_done(night: Night, tmp_path: Path) -> None:
    (command,) = documented.commands("operations.md")
    chain = night.chain.copy(tmp_path / "ws")
    own = TINY | {"inputs.root": str(chain.root), "workspace": str(chain.workspace)}
    shop = yaml.safe_load((REPOSITORY / "conf" / "local.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(merged(shop, nested(own))))
    meant = {"mine.yaml": str(tmp_path / "mine.yaml"), "2026-01-31": DATE}
    with documented.start(command, meant, tmp_path, {}, subprocess.PIPE) as process:
        said, _ = process.communicate()
    assert "nothing to do in" in said
