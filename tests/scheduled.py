"""What the tests of schedulers share: their environments, and nights on the tiny shop."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from crossweave_night import Night
from environments import FOLDER, Environment, environment_in
from support import REPOSITORY, TINY, setting

MakeNight = Callable[..., Night]


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest) -> Environment:
    """The maker of environments; they are kept in pytest's cache, or where CROSSWEAVE_SCHEDULERS says."""
    given = os.environ.get(FOLDER)
    folder = Path(given) if given else Path(request.config.cache.mkdir("schedulers"))
    return lambda name: environment_in(folder, name)


@pytest.fixture
def words(tmp_path: Path, shop: Path) -> list[str]:
    """Those of every job on the tiny shop, in a workspace of the test's own."""
    if not (REPOSITORY / ".venv" / ".ready").is_file():
        pytest.skip("submit.sh has not set .venv up here, and a test must not install anything")
    places = {"workspace": str(tmp_path / "ws"), "inputs.root": str(shop)}
    demo = {"demo.items": 60, "demo.users": 40, "demo.interactions": 400}
    return ["--conf", str(REPOSITORY / "conf" / "local.yaml"), *setting(TINY | places | demo)]


@pytest.fixture
def a_night(words: list[str]) -> MakeNight:
    """Return a function that reads a night from an environment."""
    return lambda **variables: Night.of({"CROSSWEAVE_WORDS": shlex.join(words), **variables})
