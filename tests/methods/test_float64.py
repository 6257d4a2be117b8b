"""Nothing double leaves the host: every method, and all that looks at one, on a device without float64."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from test_contract import job, shrunk, spec_of

from accelerator import DEVICE, Accelerator, Float64
from models import model_of
from safelight import methods
from safelight.checks.bench.probes import NotApplicable, OutOfTime
from safelight.checks.bench.runner import discovered
from safelight.data.pack import Pack
from safelight.data.stream import Stream
from safelight.discovery import modules
from safelight.engine.distributed import World
from safelight.engine.loop import train
from safelight.engine.precision import Execution
from safelight.engine.shares import gradient_shares
from safelight.engine.state import State
from safelight.explore.directions import closed_form, principal, transferred
from safelight.explore.path import between
from safelight.explore.specimens import Specimen, develop, start_of
from safelight.explore.traverse import along_components, components, encoded
from safelight.loading.prepare import Prepared
from safelight.randomness import RowDraw
from safelight.recipe import Recipe
from safelight.samplers.generate import generate
from safelight.training.check import subject
from safelight.types import DataSpec, Draws, Encodes, Measures

NAMES = [*modules(methods), "diffusion ddpm"]


def recipe_of(name: str) -> Recipe:
    name, _, process = name.partition(" ")
    recipe = shrunk(name)
    return recipe.with_changes({"method.process": process, "method.min_snr": 5.0}) if process else recipe


def pack_of(spec: DataSpec, count: int = 24) -> Pack:
    """Random images with the conditions of a specification, in memory."""
    random = np.random.Generator(np.random.Philox(key=3))
    (channels, height, width), kinds = spec.shape, spec.conditions
    given = {"label": random.integers(0, 3, count), "text": random.normal(size=(count, 5)).astype(np.float32)}
    return Pack(
        Path(),
        "random",
        "",
        random.integers(0, 256, (count, height, width, channels), np.uint8),
        {name: given[name] for name in kinds},
        {name: random.random(count) < 0.8 for name in kinds},
        np.arange(count + 1) if "text" in kinds else None,
        np.arange(count - 8),
        np.arange(count - 8, count),
        {name: (kind.kind, kind.size, ()) for name, kind in kinds.items()},
        [("a",)] * count if "text" in kinds else (),
        (),
    )


def ready(recipe: Recipe) -> Prepared:
    """A recipe with random data, on the device."""
    pack = pack_of(spec_of(recipe))
    stream = Stream(pack, 0, 8, device=DEVICE)
    return Prepared(recipe, pack, stream, recipe.method(), DEVICE, World(), {})


@pytest.mark.parametrize(
    "double",
    [
        lambda x: x.double(),
        lambda x: x.to("cpu", torch.float64),  # the device would convert first
        lambda x: x * torch.tensor(2.0, dtype=torch.float64),
        lambda x: x.mean(dtype=torch.float64),
        lambda x: torch.zeros(2, dtype=torch.float64, device=x.device),
        lambda x: torch.tensor([1.0], dtype=torch.float64, device=x.device),
        lambda x: torch.zeros(2, dtype=torch.float64).to(x.device),
    ],
)
def test_the_device_refuses_float64_and_computes_the_rest(double):
    with Accelerator():
        x = torch.arange(3.0).to(DEVICE)
        assert x.device == DEVICE
        assert (x * 2.5).cpu().double().tolist() == [0.0, 2.5, 5.0]
        with pytest.raises(Float64):
            double(x)
        with pytest.raises(RuntimeError, match="is on the CPU"):
            x + torch.ones(3)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_trains_measures_and_samples_on_a_device_without_float64(name):
    recipe = recipe_of(name).with_changes({"train.batch_size": 8})
    with Accelerator():
        prepared = ready(recipe)
        made = job(recipe)
        made.method, made.stream, made.device = prepared.method, prepared.stream, DEVICE
        plan = made.plan_at(0)
        made.state = State(prepared.method, prepared.stream.spec, plan, DEVICE, "contiguous")
        train(made)
        method, state = made.method, made.state
        nets = {key: net.eval() for key, net in {**state.nets, **state.averages.networks}.items()}
        batch = prepared.stream.held_out(8)
        draw = RowDraw(0, 0, "held out", batch.rows, DEVICE)
        weights = dict.fromkeys(plan.weights, 1.0)
        gradient_shares(method, state, batch, weights, lambda: torch.autocast("cpu", enabled=False))
        with torch.no_grad():
            if isinstance(method, Measures):
                method.measure(nets, batch, draw)
            if isinstance(method, Draws):
                method.panels(nets, batch, draw)
            if isinstance(method, Encodes):
                method.encode(nets, batch, draw)
            if getattr(method, "draws", True):
                generate(method, nets, recipe.sample, batch.given, batch.present, 0)
                spec, examples = prepared.stream.spec, prepared.stream.held_out
                model = model_of(method, nets, recipe.sample, spec, DEVICE, examples=examples)
                a, b = (start_of(Specimen(4, place), model) for place in (5, 6))
                develop(between(a, b, 0.5, spec.conditions), model)


@pytest.mark.parametrize("name", NAMES)
def test_every_check_looks_on_a_device_without_float64(name):
    recipe = recipe_of(name).with_changes({"train.batch_size": 8})
    with Accelerator():
        of = subject(ready(recipe), Execution("fp32", "contiguous"))
        for check in discovered():
            with suppress(NotApplicable, OutOfTime):
                list(check.check(of))


def test_directions_of_latents_are_found_on_a_device_without_float64():
    random = torch.Generator().manual_seed(0)
    z, features, matrix = (torch.randn(*shape, generator=random) for shape in ((20, 4), (20, 6), (5, 4)))

    def directions_of(z, features, matrix):
        return principal(z), transferred(z, features), closed_form(matrix, z)

    with Accelerator():
        there = directions_of(*(values.to(DEVICE) for values in (z, features, matrix)))
    for emulated, other in zip(there, directions_of(z, features, matrix), strict=True):
        assert torch.equal(emulated.steps, other.steps)


def test_a_traversal_along_components_runs_on_a_device_without_float64():
    recipe = recipe_of("vae").with_changes({"train.batch_size": 8})
    with Accelerator():
        prepared = ready(recipe)
        nets = {key: net.eval() for key, net in prepared.state("contiguous").nets.items()}
        model = model_of(prepared.method, nets, recipe.sample, prepared.stream.spec, DEVICE)
        batch = prepared.stream.held_out(8)
        axes = components(encoded(model, batch, 0))
        assert along_components(model, axes, [1], 3, batch.given, batch.present, 0).images.device == DEVICE
