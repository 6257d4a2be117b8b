"""Weights to begin with: what fits is taken, what grew does the same; the run needs its source no more."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import save_file

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.state import State
from safelight.loading.init_source import init_product
from safelight.loading.replay import replay
from safelight.loading.transfer import Transfer
from safelight.recipe import load
from safelight.run import Run
from safelight.store import checkpoint, checkpoint_files
from safelight.store.directory import RunDirectory
from safelight.training.fork import fork
from safelight.training.progress import Show
from safelight.training.stages import train_stages
from safelight.training.start import resume
from safelight.types import Condition, DataSpec
from tiny import TINY

CPU = torch.device("cpu")
BASE = {"network.width": 8, "network.embedding": 16, "network.middle": 1}
GREY = DataSpec((1, 8, 8), {"label": Condition("label", 3, ("cat", "dog", "owl"))})


def trained(recipe, spec, seed=3) -> State:
    """A state whose weights are all random, also those that layers start at zero."""
    state = State(recipe.method(), spec, recipe.plan(10), CPU, "contiguous")
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in state.nets["denoiser"].parameters():
            parameter.normal_(0, 0.3)
    return state


def moved(tmp_path, old, spec, recipe, into, **init):
    """The network of a recipe that begins with the weights of a state, and the transfer."""
    path = tmp_path / "weights.safetensors"
    weights = old.nets["denoiser"].state_dict()
    save_file({f"denoiser.{key}": value.contiguous() for key, value in weights.items()}, path)
    recipe = recipe.with_changes(
        {"init.from": str(path), **{f"init.{key}": value for key, value in init.items()}}
    )
    transfer = Transfer(init_product(str(path), tmp_path), recipe.init, recipe.method(), into)
    transfer.source_spec = spec  # as of a run
    state = State(recipe.method(), into, recipe.plan(10), CPU, "contiguous", transfer)
    return state.nets["denoiser"].eval(), transfer


def given(labels):
    return {"label": torch.tensor(labels)}, torch.ones(len(labels), dtype=torch.bool)


def test_a_network_of_twice_the_width_and_embedding_does_the_same(tmp_path):
    recipe = load("digits", BASE)
    old = trained(recipe, GREY)
    wide = recipe.with_changes({"network.width": 16, "network.embedding": 32})
    new, transfer = moved(tmp_path, old, GREY, wide, GREY)
    x, t = torch.randn(3, 1, 8, 8), torch.rand(3)
    expected = old.nets["denoiser"].eval()(x, t, *given([0, 1, 2]))
    torch.testing.assert_close(new(x, t, *given([0, 1, 2])), expected, rtol=1e-4, atol=1e-4)
    assert not transfer.report["denoiser"].new


def test_grey_pictures_in_colour_and_classes_in_another_order_become_what_they_became(tmp_path):
    recipe = load("digits", BASE)
    colour = DataSpec((3, 8, 8), {"label": Condition("label", 4, ("owl", "emu", "cat", "dog"))})
    old = trained(recipe, GREY)
    new, transfer = moved(tmp_path, old, GREY, recipe, colour)
    x, t = torch.randn(3, 1, 8, 8), torch.rand(3)
    expected = old.nets["denoiser"].eval()(x, t, *given([0, 1, 2])).expand(3, 3, 8, 8)
    torch.testing.assert_close(
        new(x.expand(3, 3, 8, 8), t, *given([2, 3, 0])), expected, rtol=1e-4, atol=1e-4
    )
    assert transfer.report["denoiser"].grown["embedding.label.weight"] == "3 of 4 by name of label"
    assert transfer.report["denoiser"].grown["stem.weight"] == "1 to 3 channels"
    fresh = State(recipe.method(), colour, recipe.plan(10), CPU, "contiguous").nets["denoiser"]
    assert torch.equal(new.embedding.label.weight[1], fresh.embedding.label.weight[1])  # the emu is new


def test_a_mask_of_more_classes_enters_as_nothing(tmp_path):
    recipe = load("digits", BASE)
    two = DataSpec((1, 8, 8), {"mask": Condition("mask", 2, ("sky", "sea"))})
    three = DataSpec((1, 8, 8), {"mask": Condition("mask", 3, ("sky", "land", "sea"))})
    old = trained(recipe, two)
    new, _ = moved(tmp_path, old, two, recipe, three)
    x, t, present = torch.randn(2, 1, 8, 8), torch.rand(2), torch.ones(2, dtype=torch.bool)
    mask = torch.rand(2, 3, 8, 8)
    expected = old.nets["denoiser"].eval()(x, t, {"mask": mask[:, [0, 2]]}, present)
    torch.testing.assert_close(new(x, t, {"mask": mask}, present), expected, rtol=1e-4, atol=1e-4)


def test_patterns_choose_and_what_is_not_taken_begins_as_without(tmp_path):
    recipe = load("digits", BASE)
    old = trained(recipe, GREY)
    new, transfer = moved(tmp_path, old, GREY, recipe, GREY, take=["denoiser.down.*"],
                          skip=["*.norm1.*"])  # fmt: skip
    fresh = State(recipe.method(), GREY, recipe.plan(10), CPU, "contiguous").nets["denoiser"].state_dict()
    source = old.nets["denoiser"].state_dict()
    for key, value in new.state_dict().items():
        taken = key.startswith("down.") and ".norm1." not in key
        assert torch.equal(value, source[key] if taken else fresh[key]), key
    assert transfer.report["denoiser"].left


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> RunDirectory:
    runs = tmp_path_factory.mktemp("runs")
    return train_stages(load("digits-class", {**TINY, "train.steps": 6}), runs, "a", World(), Show)


def begun(source, tmp_path, tiny, changes):
    runs = tmp_path / "runs"
    shutil.copytree(source.path, runs / "a")
    recipe = load(
        "digits-class", {**tiny, "train.steps": 4, "init.from": "a@6", "checkpoint.every": 2, **changes}
    )
    lines: list[str] = []
    return train_stages(recipe, runs, "b", World(), lambda: Show(tell=lines.append)), lines


def test_a_run_begins_with_the_averages_of_another_and_goes_on_without_it(source, tmp_path, tiny):
    run, lines = begun(source, tmp_path, tiny, {})
    first = checkpoint.load(checkpoint_files.directory(run.path, 0), run.digests())
    before = checkpoint.load(checkpoint_files.directory(source.path, 6))
    for key, value in first["networks"].items():
        assert torch.equal(value, before["averages"][f"ema.{key}"])
        if f"ema.{key}" in first["averages"]:
            assert torch.equal(value, first["averages"][f"ema.{key}"])
    init = run.info().facts.init
    assert (init["run"], init["step"], init["id"]) == ("a", 6, source.info().id)
    assert any(line.startswith("weights to begin with: a, step 6, averaged weights") for line in lines)
    shutil.rmtree(run.path.parent / "a")
    end = checkpoint.load(checkpoint_files.directory(run.path, 4))
    for step in (2, 4):
        shutil.rmtree(checkpoint_files.directory(run.path, step))
    state, verdict = replay(run, 4)  # from step 0, whose checkpoint has the weights
    assert verdict.verdict == "exact"
    assert all(torch.equal(value, end["networks"][key]) for key, value in state.groups()["networks"].items())
    resume(run, World(), Show())
    again = checkpoint.load(checkpoint_files.directory(run.path, 4))
    assert all(torch.equal(value, end["networks"][key]) for key, value in again["networks"].items())
    at_zero, verdict = replay(run, 0)
    assert all(
        torch.equal(value, first["networks"][key]) for key, value in at_zero.groups()["networks"].items()
    )
    branch = fork(run, 0, {"optim.lr": 1e-4}, run.path.parent)
    assert not branch.info().facts.init


def test_frozen_parameters_and_their_averages_stay_bit_for_bit(source, tmp_path, tiny):
    changes = {"train.freeze": ["denoiser.enter.*", "denoiser.down1.*"], "optim.weight_decay": 0.1}
    run, _ = begun(source, tmp_path, tiny, changes)
    first, end = (checkpoint.load(checkpoint_files.directory(run.path, step)) for step in (0, 4))
    for group in ("networks", "averages"):
        for key, value in first[group].items():
            frozen = ".enter." in key or ".down1." in key
            if "num_batches" not in key:
                assert torch.equal(value, end[group][key]) == frozen, key


def test_raw_weights_are_those_that_were_trained(source, tmp_path, tiny):
    run, _ = begun(source, tmp_path, tiny, {"init.weights": "raw"})
    first = checkpoint.load(checkpoint_files.directory(run.path, 0))
    before = checkpoint.load(checkpoint_files.directory(source.path, 6))
    assert all(torch.equal(value, before["networks"][key]) for key, value in first["networks"].items())


def test_with_adapters_a_run_resumes_and_its_weights_go_on_merged(source, tmp_path, tiny):
    run, _ = begun(source, tmp_path, tiny, {"train.lora": 2})
    end = checkpoint.load(checkpoint_files.directory(run.path, 4))
    shutil.rmtree(checkpoint_files.directory(run.path, 4))
    resume(run, World(), Show())
    again = checkpoint.load(checkpoint_files.directory(run.path, 4))
    for group, tensors in end.items():
        assert all(torch.equal(value, again[group][key]) for key, value in tensors.items()), group
    plain = load("digits-class", {**tiny, "train.steps": 1, "init.from": "b@4", "init.weights": "raw"})
    after = train_stages(plain, run.path.parent, "c", World(), Show)
    report = after.info().facts.init["networks"]["denoiser"]
    assert not report["new"]
    assert not report["left"]


def test_what_is_no_source_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"init\.from: nothing: no such run"):
        init_product("nothing", tmp_path)
    with pytest.raises(UserError, match="is a recipe"):
        init_product("recipe:digits", tmp_path)
    with pytest.raises(UserError, match="init: state where the weights are from"):
        load("digits", {"init.weights": "raw"})
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    product = init_product(str(tmp_path / "bad.safetensors"), tmp_path)
    recipe = load("digits", BASE)
    with pytest.raises(UserError, match=r"is no whole \.safetensors"):
        Transfer(product, recipe.init, recipe.method(), GREY)


def test_raw_samples_are_of_the_weights_as_trained(source):
    run = Run(source, raw=True)
    raw = checkpoint.load(checkpoint_files.directory(source.path, 6))["networks"]
    for key, value in run.model.nets["denoiser"].state_dict().items():
        assert torch.equal(value, raw[f"denoiser.{key}"])
    assert run.model.average == "as trained"
