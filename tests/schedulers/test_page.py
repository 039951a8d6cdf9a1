"""docs/schedulers.md says what conf/schedulers has."""

import re

from documented import commands
from manifests import FOLDER
from support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "schedulers.md").read_text(encoding="utf-8")
CODE = "".join(
    path.read_text(encoding="utf-8") for path in (*FOLDER.iterdir(), REPOSITORY / "submit.sh") if path.is_file()
)
ELSEWHERE = {"CROSSWEAVE_SCHEDULERS", "CROSSWEAVE_EXTRAS"}
"""Variables of tests, and of set-up, which docs elsewhere explain."""


def test_every_file_and_every_variable_that_the_page_names_is_there() -> None:
    there = {path.name for path in FOLDER.iterdir()}
    assert set(re.findall(r"conf/schedulers/([\w.-]+\w)", PAGE)) <= there
    named = set(re.findall(r"CROSSWEAVE_\w+", PAGE))
    assert {name for name in named - ELSEWHERE if not re.search(rf"\b{name}\b", CODE)} == set()


def test_every_variable_that_a_scheduler_reads_stands_on_the_page() -> None:
    programs = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py"))
    read = set(re.findall(r'"(CROSSWEAVE_\w+)"', programs))
    assert read and {name for name in read if f"`{name}`" not in PAGE} == set()


def test_the_night_by_hand_that_comes_first_is_two_commands_of_this_checkout() -> None:
    for command in commands("schedulers.md", "## First, by hand"):
        program, job, *_ = command.split()
        assert program == "./submit.sh" and f" {job} " in (REPOSITORY / "submit.sh").read_text(encoding="utf-8")
