"""Which remedies a verdict has, in which order, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from safelight.monitor.remedies import remedies
from safelight.monitor.trial import MOST, Trouble, describe, first_trial, following
from safelight.recipe import load

ILL = str(Path(__file__).parents[1] / "fixtures" / "ill" / "ill.toml")


def trouble(verdict="discriminator wins") -> Trouble:
    return Trouble(verdict, 13, 5, 19, "accuracy 1", "at most 0.97")


def test_remedies_come_in_the_order_of_the_table_and_those_of_a_new_run_are_passed_over():
    tree = load("fashion-gan").tree
    trial, passed = first_trial(trouble("mode collapse"), tree, 0)
    assert trial is not None
    assert (trial.words, trial.number, passed) == ("1/2 of the generator's learning rate", 1, [])
    trial, _ = following(trial, tree)
    assert trial is not None
    assert trial.words == "a stronger gradient penalty"
    trial, passed = following(trial, tree)
    assert trial is None
    assert "a batch twice as large" in [remedy.words for remedy in passed]


@pytest.mark.parametrize(
    ("generator", "discriminator", "verdict", "rate"),
    [
        (2e-5, 3e-3, "discriminator wins", 2.4e-4),
        (1e-2, 1e-5, "discriminator dead", 3.2e-4),
        (1e-2, 1e-5, "mode collapse", 3.2e-4),
        (1e-2, 1e-5, "discriminator wins", None),  # it wins although it is the slow one
        (1e-3, 4e-3, "discriminator wins", None),
    ],
)
def test_learning_rates_far_apart_are_brought_together_first(generator, discriminator, verdict, rate):
    recipe = load("fashion-gan", {"optim.generator.lr": generator, "optim.discriminator.lr": discriminator})
    trial, _ = first_trial(trouble(verdict), recipe.tree, 0)
    assert trial is not None
    both = {"optim.generator.lr": rate, "optim.discriminator.lr": rate}
    assert (dict(trial.changes) == both) == (rate is not None)


def test_tries_are_bounded_along_the_lineage():
    tree = load("fashion-gan").tree
    assert first_trial(trouble(), tree, MOST - 1)[0] is not None
    assert first_trial(trouble(), tree, MOST)[0] is None


@pytest.mark.parametrize("name", ["fashion-gan", "shapes-captions", "digits", "faces-1", "skylines"])
def test_every_remedy_that_a_fork_can_have_is_an_edit_of_the_recipe(name):
    from typing import get_args

    from safelight.monitor.config import Name

    recipe = load(name)
    for verdict in get_args(Name):
        for remedy in remedies(verdict, recipe.tree):
            assert recipe.with_changes(remedy.changes).tree != recipe.tree


def test_decisions_as_sentences():
    trial, _ = first_trial(trouble(), load(ILL).tree, 2)
    assert trial is not None
    assert describe({"event": "begun", "at": 5, **trial.to_dict()}) == (
        "Started at step 5 to try a stronger gradient penalty against discriminator wins, seen in the "
        "previous run at step 13 (loss.weights.r1 = 0.5); remedy 3 of its lineage, judged from step 19 on."
    )
    assert describe({"event": "given up", "at": 13, "verdict": "KL collapse", "number": 0}) == (
        "Step 13: KL collapse: no remedy left that a fork could try; the run continues unchanged."
    )
