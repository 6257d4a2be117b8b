"""What every method keeps, whichever file it comes from: found by discovery, none is named here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import pytest
import torch

from models import model_of
from safelight import methods, recipes
from safelight.discovery import modules
from safelight.engine.loop import Job, Stop, train
from safelight.engine.plan import Optim, Plan
from safelight.engine.state import State
from safelight.explore.path import between
from safelight.explore.specimens import Specimen, develop, start_of
from safelight.randomness import RowDraw
from safelight.recipe import Recipe, load, resolve
from safelight.types import Batch, Condition, DataSpec, Moment

SPEC = DataSpec((1, 8, 8), {"label": Condition("label", 3)})
TOLD = DataSpec((1, 8, 8), {"text": Condition("text", 5)})
CPU = torch.device("cpu")
SHRINK = {
    "width": 8, "widths": [8, 8], "multipliers": [1, 1], "stem": 16, "stages": [8, 8], "enter": 8,
    "base": 64, "largest": 8, "told": 8, "features": 8,
}  # fmt: skip


def shrunk(name: str) -> Recipe:
    """A shipped recipe of a method, with every network made small, and without frozen ones."""
    recipe = next(recipe for recipe in map(load, recipes.names()) if recipe.tree["method"]["name"] == name)
    tree = recipe.tree
    frozen = set(recipe.networks) - set(recipe.method_class.roles)
    if frozen:
        roles = {role: recipe.networks[role] for role in recipe.method_class.roles}
        known = recipe.method_class(recipe.method_config, roles).components
        sections = {role: tree["network"][role] for role in roles}
        tree["network"] = sections if len(roles) > 1 else next(iter(sections.values()))
        tree["loss"]["weights"] = {key: tree["loss"]["weights"][key] for key in known}
        recipe = resolve(tree, recipe.name)
    sections = {"network": tree["network"]} if "name" in tree["network"] else {
        f"network.{role}": section for role, section in tree["network"].items()
    }  # fmt: skip
    changes = {f"{where}.{key}": value for where, section in sections.items()
               for key, value in SHRINK.items() if key in section}  # fmt: skip
    return recipe.with_changes(changes)


@dataclass
class Stream:
    """Eight images a step, keyed."""

    spec: DataSpec

    def parts(self, step: int, accumulate: int, rank: int, world: int) -> list[Batch]:
        return [batch(step, range(8), self.spec)]


def batch(step: int, rows: range, spec: DataSpec = SPEC) -> Batch:
    draw = RowDraw(5, step, "data", rows)
    present = draw.uniform("present") < 0.8
    given = {"label": draw.integers("y", 3), "text": draw.normal("text", 5)}
    conditions = {name: given[name] for name in spec.conditions}
    return Batch(draw.normal("x", *SPEC.shape).tanh(), conditions, present, rows, 8)


def spec_of(recipe: Recipe) -> DataSpec:
    """Images with labels, or with texts where the recipe encodes some."""
    return TOLD if recipe.data.text_encoder else SPEC


def job(recipe: Recipe, steps: int = 4) -> Job:
    plan: Plan = replace(recipe.plan(100), steps=steps)
    method = recipe.method()
    state = State(method, spec_of(recipe), plan, CPU, "contiguous")
    return Job(
        method, state, Stream(spec_of(recipe)), lambda step: plan, lambda record: None, lambda signals: None
    )


KINDS = get_args(Optim.model_fields["kind"].annotation)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "adamw") for name in modules(methods)), *(("diffusion", kind) for kind in KINDS)],
)
def test_resumed_half_way_equals_uninterrupted(name, kind):
    recipe = shrunk(name)
    if kind != "adamw":
        recipe = recipe.with_changes({"optim.kind": kind, "optim.schedule": "constant"})
    whole = job(recipe)
    train(whole)
    first = job(recipe)

    def stop(signals) -> None:
        if first.state.step == 2:
            raise Stop

    first.boundary = stop
    with pytest.raises(Stop):
        train(first)
    second = job(recipe)
    second.state.load(first.state.groups(), 2)
    train(second)
    for group, tensors in whole.state.groups().items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, second.state.groups()[group][key]), f"{group}.{key}"


@pytest.mark.parametrize("name", modules(methods))
def test_every_trained_parameter_moves(name):
    """A part that no loss reaches is a silent fault. Layers that start at zero pass gradients on later."""
    made = job(shrunk(name), steps=8)
    before = {key: value.clone() for key, value in made.state.groups()["networks"].items()}
    train(made)
    trainable = {
        f"{net}.{key}" for net, module in made.state.nets.items() for key, _ in module.named_parameters()
    }
    still = [key for key in trainable if torch.equal(before[key], made.state.groups()["networks"][key])]
    assert set(still) <= {"discriminator.logit.bias"}  # a relativistic loss sees differences of logits only


@pytest.mark.parametrize("name", modules(methods))
def test_no_samples_loss_depends_on_another_samples_image(name):
    """But through batch norm, which is in evaluation mode here, and in phases that declare `whole`."""
    recipe = shrunk(name)
    made = job(recipe)
    train(made)
    for net in made.state.nets.values():
        net.eval()
    data = batch(9, range(8), spec_of(recipe))
    for phase in made.method.phases:
        if phase.whole:
            continue
        x = data.x.clone().requires_grad_()
        draw = RowDraw(0, 9, phase.name, data.rows)
        weights = dict.fromkeys(made.plan_at(0).weights, 1.0)
        moment = Moment(
            9, draw, made.state.memory, weights, lambda t: t, lambda: torch.autocast("cpu", enabled=False)
        )
        components, _ = phase.losses(made.state.nets, replace(data, x=x), moment)
        for component, values in components.items():
            if not values.requires_grad:
                continue
            (gradient,) = torch.autograd.grad(values[3], x, retain_graph=True, allow_unused=True)
            if gradient is not None:
                others = gradient.abs().sum((1, 2, 3))
                others[3] = 0
                assert float(others.max()) == 0, f"{phase.name}.{component}"


@pytest.mark.parametrize("name", modules(methods))
def test_a_sample_does_not_depend_on_its_company(name):
    recipe = shrunk(name)
    made = job(recipe)
    if not getattr(made.method, "draws", True):
        pytest.skip("an encoder draws no images")
    train(made)
    nets = made.state.averages.networks
    images = []
    for rows in (range(6), range(2, 4)):
        draw = RowDraw(0, 0, "sample", rows)
        given = batch(3, rows, spec_of(recipe)).given
        with torch.no_grad():
            latent = made.method.latent(draw)
            present = torch.ones(len(rows), dtype=torch.bool)
            images.append(made.method.sample(nets, latent, given, present, draw, recipe.sample))
    assert images[0].shape == (6, *SPEC.shape)
    torch.testing.assert_close(images[0][2:4], images[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", modules(methods))
def test_a_specimen_is_its_id(name):
    """Every family can be walked in: an id is its image, another one another, with a way between."""
    recipe = shrunk(name)
    made, spec = job(recipe), spec_of(recipe)
    if not getattr(made.method, "draws", True):
        pytest.skip("an encoder draws no images")
    train(made)
    nets = {name: net.eval() for name, net in {**made.state.nets, **made.state.averages.networks}.items()}
    examples = lambda count: batch(0, range(8), spec)  # noqa: E731
    model = model_of(made.method, nets, recipe.sample, spec, examples=examples)
    starts = [start_of(Specimen(4, draw), model) for draw in (5, 5, 6)]
    ways = [between(starts[0], starts[2], share, spec.conditions) for share in (0.0, 0.5, 1.0)]
    images = [develop(start, model) for start in (*starts, *ways)]
    assert all(image.shape == (1, *SPEC.shape) for image in images)
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    torch.testing.assert_close(images[3], images[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(images[5], images[2], rtol=1e-3, atol=1e-3)
    assert not torch.equal(images[4], images[0])
