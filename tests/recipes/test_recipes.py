"""Contracts of every shipped recipe, and of what is told of a wrong one."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import pytest
import torch

from models import model_of
from safelight import methods, recipes
from safelight.config import UserError
from safelight.discovery import modules, network_configs
from safelight.engine.fingerprint import count
from safelight.keys import meanings
from safelight.language import words
from safelight.loading.model import Model
from safelight.recipe import Recipe, load, resolve
from safelight.training import watch
from safelight.types import Condition, DataSpec, Method

DIGITS = DataSpec((1, 28, 28), {"label": Condition("label", 10)})


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_written_into_a_run_is_the_same_recipe(name):
    recipe = load(name)
    again = resolve(recipe.tree, name)
    assert again.tree == recipe.tree
    assert again.plan(1000) == recipe.plan(1000)


def spec_of(recipe: Recipe) -> DataSpec:
    """What the data of a recipe will look like, as far as its [data] says; digits where it says nothing."""
    conditions = DIGITS.conditions if recipe.data.labels or recipe.data.clusters else {}
    if recipe.data.source == "faces":
        conditions = {"attributes": Condition("attributes", 5)}
    if recipe.data.text_encoder:
        size = {"words": words.SIZE, "sentences": 384, "recipe:captions-encoder": 128}
        conditions = {**conditions, "text": Condition("text", size.get(recipe.data.text_encoder, 512))}
    return DataSpec((recipe.data.channels or 1, *(recipe.data.height_width or (28, 28))), conditions)


def method_of(recipe: Recipe) -> Method:
    """The method without frozen networks, whose weights come from elsewhere."""
    roles = {role: network for role, network in recipe.networks.items() if role in recipe.method_class.roles}
    method: Method = recipe.method_class(recipe.method_config, roles)
    return method


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_tells_its_size(name):
    recipe = load(name)
    with torch.device("meta"):
        nets = method_of(recipe).networks(spec_of(recipe))
    millions = float(recipe.about.size.split()[0])
    assert count(nets) / 1e6 == pytest.approx(millions, abs=0.06)
    assert recipe.about.title
    assert recipe.about.time


@pytest.mark.parametrize("name", network_configs())
def test_every_network_has_a_config_that_names_it_and_states_its_first_weights(name):
    config_class = network_configs()[name]
    file = import_module(config_class.__module__)
    here = [other for other in network_configs().values() if other.__module__ == config_class.__module__]
    assert (file.__doc__ or "").count("\nInitial weights") == len(here)
    config = config_class()
    assert config.name == name
    spec = DataSpec((3, 256, 256), {"label": Condition("label", 10)})
    if not hasattr(config, "path"):  # of a frozen one, whose weights come from elsewhere
        with torch.device("meta"):
            assert count({"net": config.build(spec)}) > 1000
    assert type(config).model_fields.keys() - {"name"} == meanings(config_class).keys()


@pytest.mark.parametrize("name", modules(methods))
def test_every_method_keeps_the_protocol(name):
    recipe = next(recipe for recipe in map(load, recipes.names()) if recipe.tree["method"]["name"] == name)
    method = method_of(recipe)
    with torch.device("meta"):
        nets = method.networks(spec_of(recipe))
    trained = {network for phase in method.phases for network in phase.trains}
    assert trained <= nets.keys()
    assert not trained & set(method.frozen)
    assert set(method.ema) <= nets.keys()
    assert len({phase.name for phase in method.phases}) == len(method.phases)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.stepz": 5}, "train.stepz: no such key (did you mean 'train.steps'?)"),
        ({"trian.steps": 5}, "trian: no such section (did you mean 'train'?)"),
        ({"network.name": "unett"}, "network.name: 'unett' does not exist (did you mean 'unet'?)"),
        ({"method.name": "difusion"}, "method.name: 'difusion' does not exist (did you mean 'diffusion'?)"),
        ({"loss.weights.mes": 1.0}, "loss.weights.mes: no such component (did you mean 'mse'?)"),
        ({"loss.mse": 1.0}, "loss.mse: no such key (did you mean loss.weights.mse?)"),
        ({"loss.weights.mse": "big"}, "loss.weights.mse: 'big' is neither a number nor a ramp"),
        ({"sample.sampler": "huen"}, "sample.sampler: 'huen' is not a valid choice (did you mean 'heun'?)"),
        ({"optim.lr": "fast"}, "optim.lr: 'fast' should be a valid number"),
        ({"train.steps": 0}, "train.steps: 0 should be greater than or equal to 1"),
        ({"train.steps": 5, "train.epochs": 2}, "train: state either steps or epochs"),
        ({"data.source": "digit"}, "data.source: 'digit' is not a valid choice (did you mean 'digits'?)"),
        ({"optim": 3}, "optim: expected a section [optim], found 3"),
    ],
)
def test_a_wrong_recipe_is_told_in_one_line(changes, message):
    with pytest.raises(UserError) as error:
        load("digits", changes)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'digits-time'"):
        load("digit-time")


def test_stating_steps_takes_the_place_of_epochs():
    assert load("digits-time", {"train.steps": 7}).plan(1000).steps == 7
    assert load("digits", {"train.epochs": 2}).plan(640).steps == 20
    assert load("digits-time").plan(60_000).steps == round(20 * 60_000 / 128)


def test_a_weight_may_be_a_ramp():
    recipe = load("digits", {"loss.weights.mse": {"begin": 0.0, "end": 2.0, "after": 0, "over": 10}})
    assert recipe.plan(1000).weights_at(5) == {"mse": 1.0}
    assert resolve(recipe.tree, "again").plan(1000).weights_at(5) == {"mse": 1.0}


def test_system_5_is_as_its_notes_say():
    denoise, time, class_ = (load(f"digits-{name}") for name in ("denoise", "time", "class"))
    assert (denoise.networks["denoiser"].width, denoise.train.batch_size, denoise.train.epochs) == (
        128,
        256,
        5,
    )
    assert denoise.optim["denoiser"].lr_at(0, 10) == denoise.optim["denoiser"].lr_at(9, 10) == 1e-4
    assert denoise.method_config.sigma == 0.5
    assert denoise.method_config.strip == (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)
    for recipe in (time, class_):
        assert (recipe.method_config.timesteps, recipe.method_config.beta_range) == (300, (1e-4, 0.02))
        assert (recipe.train.batch_size, recipe.train.epochs) == (128, 20)
        plan, optim = recipe.plan(60_000), recipe.optim["denoiser"]
        ends = [optim.lr_at(step, plan.steps, plan.epoch) for step in (0, 468, 469, 9374)]
        assert ends == pytest.approx([1e-3, 1e-3, 1e-3 * 0.1 ** (1 / 20), 1e-3 * 0.1 ** (19 / 20)])
        assert recipe.watch.epochs == (5, 20)
        assert (recipe.sample.sampler, recipe.sample.variance) == ("ancestral", "beta")
    assert class_.method_config.condition_dropout == 0.1
    assert class_.sample.guidance == 5.0
    assert class_.watch.images == 40  # four of every digit


def test_a_path_alone_takes_the_place_of_a_published_set(tmp_path):
    for folder, name in (("photos", "1.png"), ("idx", "t10k-labels-idx1-ubyte.gz")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()

    def source(recipe: str, path: str, **changes: str) -> str:
        return load(recipe, {"data.path": str(tmp_path / path), **changes}).data.source

    assert (
        source("fashion", "photos") == source("digits", "photos") == source("fashion", "absent") == "folder"
    )
    assert source("fashion", "images.npz") == "arrays"
    assert source("fashion", "idx") == "fashion-mnist"
    assert source("fashion", "idx", **{"data.source": "idx"}) == "idx"
    assert source("fashion", "photos", **{"data.source": "mnist"}) == "mnist"
    assert load("fashion", {"data.source": "hub", "data.path": "a/b"}).with_changes(
        {"data.path": "c/d"}
    ).data == (load("fashion", {"data.source": "hub", "data.path": "c/d"}).data)


def test_system_3_is_as_its_notes_say():
    recipe = load("skylines")
    with torch.device("meta"):
        nets = recipe.method().networks(spec_of(recipe))
    assert count({"generator": nets["generator"]}) == 117_515_843
    assert count({"discriminator": nets["discriminator"]}) == 3_915_393
    assert (spec_of(recipe).shape, recipe.train.batch_size, recipe.data.flip) == ((3, 1024, 1024), 6, True)
    assert [phase.name for phase in recipe.method().phases][:2] == ["real", "fake"]
    assert recipe.plan(261).weights_at(0) == {"d1": 1.0, "d2": 1.0, "g": 1.0, "r1": 0.0, "r2": 0.0}
    for optim in recipe.optim.values():
        assert (optim.kind, optim.betas[0], optim.lr_at(19_000, 20_000)) == ("adam", 0.5, 5e-5)


def test_sheets_may_have_a_sampler_and_steps_of_their_own(monkeypatch):
    skin = load("skin")
    assert skin.preview == skin.sample.model_copy(update={"sampler": "unipc", "steps": 10, "eta": 0.0})
    assert (skin.sample.sampler, skin.sample.steps, skin.sample.eta) == ("ddim", 250, 1.0)
    assert load("skin", {"watch.sampler": "ddim"}).preview == skin.sample.model_copy(update={"steps": 10})
    assert load("digits").preview == load("digits").sample  # old recipes keep meaning what they did
    assert "sampler" not in load("digits").tree["watch"]
    drawn = []
    monkeypatch.setattr(Model, "generate", lambda model, *others: drawn.append(model.how))
    model = replace(model_of(None, {}, skin.sample, None), recipe=skin)
    watch.watched_images(model, ({}, None))
    assert drawn == [skin.preview]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("fashion-gan", {"watch.steps": 4}, r"watch\.steps: samples of this method take no steps"),
        ("digits", {"watch.sampler": "unipcc"}, r"watch\.sampler: .*'unipcc'"),
    ],
)
def test_a_sampler_of_the_sheets_that_cannot_be(name, changes, message):
    with pytest.raises(UserError, match=message):
        load(name, changes)


def test_weights_go_with_the_components_that_a_change_of_the_method_takes_away():
    recipe = load("fashion-gan", {"method.loss": "non-saturating", "loss.weights.d2": 2.0})
    assert recipe.weights == {"d1": 1.0, "d2": 2.0, "g": 1.0, "r1": 0.5, "r2": 0.5}
    with pytest.raises(UserError, match=r"^loss\.weights\.d: no such component"):
        load("fashion-gan", {"method.loss": "non-saturating", "loss.weights.d": 1.0})
