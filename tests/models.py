"""A model of a bare method, without a run."""

from __future__ import annotations

from pathlib import Path

import torch

from safelight.data.space import Space
from safelight.loading.model import Model, RunData
from safelight.recipe import load
from safelight.store.directory import RunDirectory


def model_of(method, nets, how, spec, device="cpu", *, seed=0, examples=None, space=None) -> Model:
    """Networks of a method, ready to sample.

    how: its [sample]. seed: of training. examples: real items by their number; without it there are no data.
    """
    recipe = load("digits-class", {"train.seed": seed})
    data = RunData(RunDirectory(Path("nowhere")), recipe, torch.device(device), space or Space())
    if examples is not None:
        data.examples = examples
    return Model(method, nets, how, spec, recipe, data)
