"""Networks cut over processes: the same checkpoints as whole ones, resumed on any number of processes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from forks import Forks, serving
from safelight.config import UserError
from safelight.engine.fingerprint import WeightFingerprint, as_hex
from safelight.engine.sharded import require_shardable
from safelight.loading.model import state_of
from safelight.loading.recorded import recipe_of, spec_of
from safelight.recipe import load
from safelight.run import Run
from safelight.store import checkpoint, checkpoint_files, metrics
from safelight.store.directory import RunDirectory, find

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SHORT = {"train.steps": 12, "checkpoint.every": 4, "watch.every": 12, "sample.steps": 2, "tape.every": 6}
UNET = {"network.name": "unet", "network.width": 8, "network.groups": 2, "network.multipliers": [1, 2],
        "network.embedding": 8, "train.ema_lengths": [0.1]}  # fmt: skip


@pytest.fixture(scope="module")
def forks(tmp_path_factory) -> Iterator[Forks]:
    with serving(tmp_path_factory.mktemp("forks")) as server:
        yield server


@pytest.fixture(scope="module")
def runs(forks, tmp_path_factory) -> Path:
    """ "cut" and "whole", trained in three processes."""
    from tiny import TINY

    folder = tmp_path_factory.mktemp("runs")
    for name, shard in (("cut", True), ("whole", False)):
        keys = TINY | SHORT | UNET | {"train.shard": shard}
        words = ["digits", *(f"{key}={json.dumps(value)}" for key, value in keys.items())]
        forks.run("forks:command", ["train", *words, "--name", name, "--runs", str(folder)], 3)
    return folder


def saved(run: RunDirectory, step: int = 12) -> dict[str, torch.Tensor]:
    groups = checkpoint.load(checkpoint_files.directory(run.path, step))
    return {f"{group}.{name}": value for group, tensors in groups.items() for name, value in tensors.items()}


def assert_close(one: RunDirectory, other: RunDirectory) -> None:
    """All that a checkpoint holds, but for the order of sums."""
    left, right = saved(one), saved(other)
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=2e-3, atol=2e-5, msg=name)


def test_parts_train_to_the_whole_and_are_gathered_into_the_same_checkpoint(runs):
    cut, whole = find("cut", runs), find("whole", runs)
    assert_close(cut, whole)
    environments = [run.journal().of_kind("session")[0].fields["environment"] for run in (cut, whole)]
    assert [environment.get("parameters") for environment in environments] == ["cut", None]
    assert {path.name for path in (cut.path / "sheets").iterdir()} == {"00000012.png"}
    for name in ("loss/mse", "grad_norm/denoiser"):
        ours, theirs = (metrics.read(run.path) for run in (cut, whole))
        column = next(key for key in ours if key.endswith(name.split("/")[-1]))
        assert list(ours[column]) == pytest.approx(list(theirs[column]), rel=1e-2)


def test_the_fingerprint_of_parts_is_that_of_the_whole(runs):
    run = find("cut", runs)
    recipe = recipe_of(run)
    state = state_of(run, recipe, recipe.method(), spec_of(run), torch.device("cpu"))
    state.load(checkpoint.load(checkpoint_files.directory(run.path, 12)), 12)
    recorded = list(metrics.read(run.path)["fingerprint"])[-1]
    assert as_hex(int(WeightFingerprint(state.nets)())) == recorded


@pytest.mark.parametrize("processes", [3, pytest.param(2, marks=pytest.mark.slow), 1])
def test_a_run_goes_on_on_any_number_of_processes(forks, runs, tmp_path, processes):
    """On as many to the bit, on others but for the order of sums; alone it is whole again, and draws."""
    path = Path(shutil.copytree(runs / "cut", tmp_path / "b"))
    for step in (8, 12):
        shutil.rmtree(checkpoint_files.directory(path, step))
    forks.run("forks:command", ["resume", "b", "--runs", str(tmp_path)], processes)
    run, cut = find("b", tmp_path), find("cut", runs)
    if processes == 3:
        assert all(torch.equal(value, saved(cut)[name]) for name, value in saved(run).items())
        assert [*metrics.read(run.path)["fingerprint"]] == [*metrics.read(cut.path)["fingerprint"]]
    else:
        assert_close(run, cut)
    assert Run(run).sample(2).images.shape == (2, 28, 28, 1)


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("fashion-gan", {}, "train.shard: is for methods of one phase"),
        ("digits", {"optim.kind": "muon"}, "train.shard: optim.kind=muon needs whole parameters"),
        ("digits", {"train.lora": 4}, "train.shard: does not go with train.lora"),
        ("digits", {"train.compile": True}, "train.shard: does not go with train.compile"),
        ("digits", {"train.memory_format": "channels_last"}, "train.shard: needs train.memory_format"),
    ],
)
def test_what_cannot_be_cut_is_refused(recipe, changes, message):
    asked = load(recipe, {"train.shard": True, **changes})
    with pytest.raises(UserError, match=f"^{message}"):
        require_shardable(asked.plan(1), asked.method())
    plain = load(recipe, changes)
    require_shardable(plain.plan(1), plain.method())
