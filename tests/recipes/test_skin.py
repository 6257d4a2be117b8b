"""System 1 is as its notes say: sizes, schedules, and what is a fault there."""

from __future__ import annotations

import pytest
import torch

from safelight.engine.distributed import World
from safelight.engine.fingerprint import count
from safelight.engine.loop import Job, train
from safelight.engine.state import State
from safelight.randomness import RowDraw
from safelight.recipe import load
from safelight.run import Run
from safelight.training.progress import Show
from safelight.training.stages import train_stages
from safelight.types import Batch, Condition, DataSpec

SPEC = DataSpec((4, 32, 64), {"mask": Condition("mask", 5), "label": Condition("label", 5)})


def test_the_unet_has_about_172_million_parameters():
    recipe = load("skin")
    with torch.device("meta"):
        nets = recipe.method().networks(SPEC)
    assert count(nets) == 171_078_404
    config = recipe.networks["denoiser"]
    assert (config.width, config.multipliers, config.blocks, config.groups) == (256, (1, 2, 4), 2, 2)
    assert config.dropout == 0.05


def test_it_is_trained_and_sampled_as_the_notes_say():
    recipe = load("skin")
    method, optim = recipe.method_config, recipe.optim["denoiser"]
    assert (method.process, method.prediction, method.betas, method.timesteps) == (
        "ddpm", "epsilon", "cosine", 1000,
    )  # fmt: skip
    assert (optim.kind, optim.lr, optim.betas, optim.schedule) == ("adam", 1e-4, (0.9, 0.99), "one-cycle")
    assert (optim.clip, recipe.train.ema, recipe.train.steps) == (1.0, 0.995, 12_000)
    assert (recipe.train.batch_size, recipe.train.accumulate) == (128, 2)
    assert (recipe.sample.sampler, recipe.sample.steps, recipe.sample.eta, recipe.sample.guidance) == (
        "ddim", 250, 1.0, 3.0,
    )  # fmt: skip
    assert recipe.watch.every == 100
    assert recipe.data.balance == (0.5, 0.125, 0.125, 0.125, 0.125)
    assert (recipe.data.flip, recipe.data.turn, recipe.data.height_width) == (True, "half", (256, 512))


def test_its_schedule_is_completed():
    """The original planned 100,000 steps and stopped at 12,000, in its warm-up."""
    optim = load("skin").optim["denoiser"]
    assert optim.lr_at(11_999, 12_000) < 1e-8
    assert [optim.betas_at(step, 12_000) for step in (3599, 11_999)] == [(0.85, 0.99), (0.95, 0.99)]
    assert max(optim.lr_at(step, 12_000) for step in range(0, 12_000, 100)) == pytest.approx(1e-4, rel=1e-3)


@pytest.mark.parametrize("name", ["skin", "skin-small"])
def test_estimates_of_latents_are_not_clipped(name):
    assert load(name).sample.clip is False


@pytest.mark.slow
def test_the_full_size_takes_a_step():
    """One step at batch 1, in about 4 GB: every parameter gets a gradient, and most of them move."""
    recipe = load("skin", {"train.steps": 1, "train.batch_size": 1, "train.accumulate": 1})
    method, plan = recipe.method(), recipe.plan(10)
    state = State(method, SPEC, plan, torch.device("cpu"), "contiguous")
    before = state.nets["denoiser"].head[2].weight.clone()

    class Stream:
        def parts(self, step, accumulate, rank, world):
            draw = RowDraw(0, step, "data", range(1))
            given = {"mask": draw.uniform("mask", 5, 32, 64), "label": torch.zeros(1, dtype=torch.int64)}
            return [Batch(draw.normal("x", 4, 32, 64), given, torch.ones(1, dtype=torch.bool), range(1), 1)]

    norms = []
    train(Job(method, state, Stream(), lambda step: plan, lambda record: norms.append(record.scalars),
              lambda signals: None))  # fmt: skip
    assert float(norms[0]["grad_norm/denoiser"]) > 0
    assert not torch.equal(before, state.nets["denoiser"].head[2].weight)
    assert 0.5 < float(norms[0]["mse"]) < 1.5  # a network that says nothing is off by the noise's variance


@pytest.mark.slow
def test_the_small_one_obeys_its_masks_and_looks_like_tissue(tmp_path):
    """As shipped, its autoencoder included: a quarter of an hour of two cores, then 400 samples."""
    train_stages(load("skin-small"), tmp_path, "s1", World(), Show)
    results = Run.open("s1", tmp_path).evaluate(400).results
    obeyed, distance = results["mask IoU"], results["FD-segmenter"]
    assert obeyed.value >= 0.8 * obeyed.floor  # of the same segmenter on real held-out images
    assert distance.value <= 3 * distance.floor  # of real images
