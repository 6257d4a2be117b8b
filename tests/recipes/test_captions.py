"""System 2 is as its notes say, and drawn scenes are what their captions ask for."""

from __future__ import annotations

import pytest

from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.run import Run
from safelight.training.progress import Show
from safelight.training.stages import train_stages


@pytest.mark.parametrize("name", ["captions-base", "captions-image"])
def test_the_two_sides_of_the_comparison_weigh_as_the_notes_say(name):
    recipe = load(name)
    method, weights = recipe.method_config, recipe.weights
    assert (method.temperature, method.perturb, method.augment) == (0.5, 0.1, "ada")
    assert (method.penalty_every, method.path_every, recipe.train.batch_size) == (16, 4, 8)
    at_start = {key: float(value) for key, value in recipe.tree["loss"]["weights"].items()}
    assert (at_start["con_d"], at_start["con_g_d"], at_start["con_g_encoder"]) == (5, 5, 10)
    assert (at_start["r1"], at_start["path"]) == (5, 2)
    assert (at_start["image_d"] > 0) == (at_start["image_encoder"] > 0) == (name == "captions-image")
    assert at_start.keys() == dict(weights).keys()
    for optim in recipe.optim.values():
        assert (optim.kind, optim.lr, optim.betas) == ("adam", 0.0025, (0.0, 0.99))
    assert recipe.train.steps * recipe.train.batch_size == 25_000_000


@pytest.mark.slow
def test_drawn_scenes_are_those_of_their_captions(tmp_path):
    """As shipped, its encoder included: a quarter of an hour of one core, then 1,000 samples each."""
    train_stages(load("shapes-captions"), tmp_path, "s1", World(), Show)
    results = Run.open("s1", tmp_path).evaluate(1000).results
    assert results["alignment"].value >= 0.9
    assert results["alignment unseen"].value >= 0.75
