"""The settings to start with, by kind of catalog: each loads, says which page explains it, and runs on the shop."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml
from support import REPOSITORY, Chain

from crossweave import pipeline
from crossweave.config import Settings, load_settings

RECIPES = sorted((REPOSITORY / "conf" / "recipes").glob("*.yaml"))
BY_NAME = pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)


def settings_of(recipe: Path, *more: Path) -> Settings:
    return load_settings([recipe, *more], ["workspace=/none/ws"])


def test_there_is_a_recipe_for_every_kind_of_catalog_that_the_page_names() -> None:
    page = (REPOSITORY / "docs" / "pretraining.md").read_text(encoding="utf-8").partition("## Recipes")[2]
    for recipe in RECIPES:
        assert f"[{recipe.stem}](../conf/recipes/{recipe.name})" in page
    assert page.count("../conf/recipes/") == len(RECIPES) == 6


@BY_NAME
def test_a_recipe_is_accepted_by_every_stage_and_leaves_the_tables_to_its_reader(recipe: Path, tmp_path: Path) -> None:
    settings = settings_of(recipe)
    for stage in pipeline.stages(settings):
        stage.check(settings)
    own = tmp_path / "own.yaml"
    own.write_text("inputs: {items: {path: /data/goods, title: name}}", encoding="utf-8")
    laid_over = settings_of(recipe, own)
    assert (laid_over.inputs.items.path, laid_over.inputs.items.title) == ("/data/goods", "name")
    assert laid_over.modalities == settings.modalities


@BY_NAME
def test_the_task_that_a_recipe_suggests_is_one_of_its_own_encoders(recipe: Path, tmp_path: Path) -> None:
    """What is commented out must stay right too: it is read with the comment marks taken away."""
    lines = recipe.read_text(encoding="utf-8").splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith("# pretrain:")), None)
    if start is None:
        return
    suggested = []
    for line in lines[start:]:
        if not line.startswith("#"):
            break
        suggested.append(line.removeprefix("# "))
    tasks = yaml.safe_load("\n".join(suggested))
    own = tmp_path / "task.yaml"
    own.write_text(yaml.safe_dump(tasks), encoding="utf-8")
    settings = settings_of(recipe, own)
    assert settings.pretrain.tasks.keys() <= {modality.encoder for modality in settings.modalities.values()}


@pytest.mark.slow
@BY_NAME
def test_a_recipe_runs_on_the_shop(recipe: Path, new_chain: Chain) -> None:
    result = new_chain.run(conf=[recipe])
    assert (result["status"], result["error"]) == ("ok", None)
    settings = settings_of(recipe)
    assert new_chain.features().keys() == settings.modalities.keys()
    assert all(new_chain.features().values())
    lists: dict[str, list[str]] = {}
    for row in new_chain.table("recommendations"):
        lists.setdefault(row["user_id"], []).append(row["item_id"])
    assert len(lists) == len(new_chain.table("users"))
    categories = {row["item_id"]: dict(row["attributes"]).get("category") for row in new_chain.table("catalog")}
    most = settings.score.rules.at_most.get("category", 20)
    for items in lists.values():
        known = Counter(category for item in items if (category := categories[item]))
        assert max(known.values()) <= most
