"""A grid of settings: which values a word holds, and names that are a function of the settings."""

from __future__ import annotations

import pytest

from safelight.config import UserError
from safelight.training.grid import grid, split, values_of


@pytest.mark.parametrize(
    ("word", "key", "values"),
    [
        ("optim.lr=1e-4,3e-4", "optim.lr", [1e-4, 3e-4]),
        ("train.steps=300", "train.steps", [300]),
        ("network.multipliers=[1,2],[1, 2, 4]", "network.multipliers", [[1, 2], [1, 2, 4]]),
        ("network.attention=[]", "network.attention", [[]]),
        ("method.prediction=v,epsilon", "method.prediction", ["v", "epsilon"]),
        ('data.path="a,b",c', "data.path", ["a,b", "c"]),
        ("data.path='x]','[y'", "data.path", ["x]", "[y"]),
        ("data.flip=true,false", "data.flip", [True, False]),
        (
            "loss.weights.mse={begin = 0.0, end = 1.0, over = 10}, 1.0",
            "loss.weights.mse",
            [{"begin": 0.0, "end": 1.0, "over": 10}, 1.0],
        ),
        ("evaluate.n=1_000,2_000", "evaluate.n", [1000, 2000]),
    ],
)
def test_values_are_separated_by_commas_that_are_not_inside_a_value(word, key, values):
    assert values_of(word) == (key, values)


def test_split_gives_back_everything_but_the_commas():
    for text in ("a,b,,c", "[1,[2,3]],{a=1,b=2}", "'a,b',\"c,'d\"", "", ",", "no comma"):
        assert ",".join(split(text)) == text


@pytest.mark.parametrize("word", ["optim.lr", "optim.lr=", "optim.lr=1e-4,", "=3", "optim.lr=1,,2"])
def test_words_that_are_no_values_are_refused(word):
    with pytest.raises(UserError, match="expected key=value,value"):
        values_of(word)


def test_every_combination_under_every_seed(tiny):
    words = ["optim.lr=1e-3,1e-2", "network.width=4,8", "train.steps=5"]
    cells = grid("digits-class", words, seeds=2)
    settings = [
        (
            cell.recipe.tree["optim"]["lr"],
            cell.recipe.tree["network"]["width"],
            cell.recipe.train.seed,
            cell.recipe.train.steps,
        )
        for cell in cells.cells
    ]
    assert settings == [(lr, width, seed, 5) for lr in (1e-3, 1e-2) for width in (4, 8) for seed in (0, 1)]
    assert cells.swept == ("optim.lr", "network.width")
    assert cells.name == "sweep-digits-class-lr-width"
    assert cells.cells[3].label == "lr = 0.001 · width = 8 · seed 1"
    assert cells.cells[3].name.startswith("digits-class-lr=0.001-width=8-seed=1-")
    assert len({cell.name for cell in cells.cells}) == 8


def test_names_are_a_function_of_all_settings_and_of_nothing_else():
    def names(*words, **how):
        return [cell.name for cell in grid("digits-class", words, **how).cells]

    assert names("optim.lr=1e-3,1e-2") == names("optim.lr=0.001,0.01")
    assert names("optim.lr=1e-3,1e-2", seeds=2)[::2] == names("optim.lr=1e-3,1e-2")
    assert names("optim.lr=1e-3,1e-2", "about.title=x") == names("optim.lr=1e-3,1e-2")
    for other in ("train.steps=7", "optim.eps=1e-7", "data.held_out=0.2"):
        assert not set(names("optim.lr=1e-3,1e-2", other)) & set(names("optim.lr=1e-3,1e-2"))


def test_names_can_be_names_of_runs(tmp_path):
    from safelight.store.directory import create
    from safelight.store.info import Facts

    words = [
        "data.path='/some/folder of ours','/other'",
        "data.source=folder",
        "optim.betas=[0.9, 0.99],[0.5, 0.9]",
    ]
    for cell in grid("digits-class", words).cells:
        create(tmp_path, "", recipe="r", steps=1, facts=Facts({}, {}, {}, {}), name=cell.name)


@pytest.mark.parametrize(
    ("words", "seeds", "message"),
    [
        (["optim.lr=1e-3", "optim.lr=1e-2"], 1, "optim.lr: is given twice"),
        (["train.seed=1,2"], 2, "train.seed: is swept over already"),
        (["optim.lr=1e-3,0.001"], 1, "two combinations are the same settings"),
        (["optim.lr=1e-3,fast"], 1, "optim.lr: 'fast'"),
        (["optim.lrs=1e-3,1e-2"], 1, "optim.lrs: no such key"),
    ],
)
def test_mistakes_are_found_before_anything_trains(words, seeds, message):
    with pytest.raises(UserError, match=message):
        grid("digits-class", words, seeds)


def test_seeds_count_up_from_that_of_the_recipe_or_are_swept_themselves():
    def seeds(*words, **how):
        return [cell.recipe.train.seed for cell in grid("digits-class", words, **how).cells]

    assert seeds("train.seed=5", seeds=3) == [5, 6, 7]
    assert seeds("train.seed=1,9") == [1, 9]
    assert [cell.label for cell in grid("digits-class", ["train.seed=1,9"]).cells] == ["seed 1", "seed 9"]
