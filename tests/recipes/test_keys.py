"""Every key of every model has a meaning, on docs/recipe.md and in what `safelight new --full` writes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from test_hostile import KEYS

from safelight import keys, recipes
from safelight.config import flatten
from safelight.recipe import load, resolve

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"


def test_the_page_is_that_of_the_models():
    """Otherwise: python -m safelight.keys > docs/recipe.md."""
    assert PAGE.read_text(encoding="utf-8") == keys.page()


@pytest.mark.parametrize("section", dict(KEYS))
def test_every_key_has_a_meaning_on_the_page(section):
    page, meanings = PAGE.read_text(encoding="utf-8"), keys.meanings(section)
    for key in section.model_fields.keys() - {"name"}:
        assert meanings[key][0].isupper() or meanings[key][0].isdigit()
        assert meanings[key].endswith(".")
        name = section.model_fields[key].alias or key
        rows = [row for row in page.splitlines() if row.startswith(f"| `{name}` |")]
        assert any(row.endswith(f"| {meanings[key]} |") for row in rows), key


@pytest.mark.parametrize("name", recipes.names())
def test_a_full_recipe_states_every_key_and_is_the_same_recipe(name):
    recipe = load(name)
    text = keys.full(recipe)
    assert resolve(tomllib.loads(text), name).tree == recipe.tree
    assert flatten(recipe.tree).keys() <= flatten(tomllib.loads(text)).keys()
    lines = set(text.splitlines())
    unset = [key for key, value in recipe.data if value is None]
    assert all(f"# {key} =" in lines for key in unset)


def test_a_shipped_recipe_reads_in_a_minute():
    lengths = {
        name: len(recipes.path(name).read_text(encoding="utf-8").splitlines()) for name in recipes.names()
    }
    assert lengths["digits"] <= 45
    assert max(lengths.values()) <= 90


@pytest.mark.parametrize("name", recipes.names())
def test_a_shipped_recipe_states_no_section_that_changes_nothing(name):
    stated = tomllib.loads(recipes.path(name).read_text(encoding="utf-8"))
    for section in set(stated) - {"about", "data", "network", "method", "loss", "sample"}:
        rest = {key: value for key, value in stated.items() if key != section}
        assert section == "train" or resolve(rest, name).tree != load(name).tree


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int | None, "whole number"),
        (tuple[float, float], "list of 2: number"),
        (tuple[str, ...] | None, "list: text"),
        (str | tuple[str, ...], "text or list: text"),
        (dict[str, str], "section"),
    ],
)
def test_values_in_words(kind, words):
    assert keys.values(kind) == words
