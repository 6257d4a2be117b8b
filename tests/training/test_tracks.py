"""Averages of other lengths, afterwards: snapshots that outlive checkpoints, and how far off those are."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.ema import tracks_of
from safelight.recipe import load
from safelight.run import Run
from safelight.store import checkpoint, checkpoint_files, tracks
from safelight.store.directory import RunDirectory
from safelight.training.fork import fork
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY

CHANGES = {
    **TINY,
    "train.steps": 48,
    "train.ema_lengths": [0.05, 0.10],
    "watch.every": 100,
    "checkpoint.every": 12,
    "checkpoint.keep": 1,
    "checkpoint.budget": "1 KB",
    "check.before_training": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    return begin(load("digits-class", CHANGES), tmp_path_factory.mktemp("runs"), "a", World(), Show())


def stated_error(run: RunDirectory, length: float) -> float:
    """How far off an average of a length is said to be."""
    lines: list[str] = []
    opened = Run(run, ema_length=length, tell=lines.append)
    matched = re.fullmatch(
        rf"average of relative length {length}: made from the tracks of \d+ steps, its weights of "
        r"the steps off by (\d+\.\d)%",
        lines[-1],
    )
    assert matched
    error = float(matched[1]) / 100
    assert opened.model.average.endswith(f", off by {error:.0%}") == (error >= 0.005)
    return error


def test_snapshots_are_regular_and_outlive_the_checkpoints(run):
    assert checkpoint_files.list_steps(run.path) == [48]
    assert tracks.steps(run.tracks) == list(range(3, 49, 3))  # 16 of them
    state = checkpoint.load(checkpoint_files.directory(run.path, 48))["averages"]
    kept = tracks.load(run.tracks, 48)
    assert kept.keys() == {name for name in state if name.startswith("track")}
    for name, value in kept.items():
        assert value.dtype == torch.float16
        assert torch.equal(value, state[name].half())


def test_the_error_is_told_and_small_with_the_history_and_large_without(run, tmp_path):
    old = RunDirectory(Path(shutil.copytree(run.path, tmp_path / "old")))
    shutil.rmtree(old.tracks)  # as a run from before there were any
    assert stated_error(run, 0.15) < 0.015
    assert stated_error(old, 0.15) > 0.15
    assert stated_error(old, 0.1) == 0  # it is a track itself


def test_what_the_history_makes_is_the_average_as_if_it_had_been_kept(run, tmp_path):
    lengths = {"train.ema_lengths": [0.05, 0.10, 0.15]}
    other = begin(load("digits-class", {**CHANGES, **lengths}), tmp_path, "b", World(), Show())
    truth = tracks_of(checkpoint.load(checkpoint_files.directory(other.path, 48))["averages"])[0.15]
    kept = tracks_of(checkpoint.load(checkpoint_files.directory(run.path, 48))["averages"])[0.1]
    old = RunDirectory(Path(shutil.copytree(run.path, tmp_path / "old")))
    shutil.rmtree(old.tracks)

    def off(weights) -> float:
        return sum(float((weights[name] - value).square().sum()) for name, value in truth.items()) ** 0.5

    def made(directory):
        nets = Run(directory, ema_length=0.15).model.nets
        return {f"denoiser.{name}": parameter for name, parameter in nets["denoiser"].named_parameters()}

    assert off(made(run)) < off(made(old)) / 3
    assert off(made(run)) < off(kept) / 2


def test_a_resumed_run_keeps_the_same_snapshots(run, tmp_path):
    """A crash after step 40: what is trained again from the checkpoint of step 24 replaces its own."""
    whole = begin(
        load("digits-class", {**CHANGES, "checkpoint.budget": "1 GB"}), tmp_path, "c", World(), Show()
    )
    files = {path.name: path.read_bytes() for path in whole.tracks.iterdir()}
    assert files == {path.name: path.read_bytes() for path in run.tracks.iterdir()}
    for step in (36, 48):
        shutil.rmtree(checkpoint_files.directory(whole.path, step))
    (whole.tracks / f"{30:08d}.safetensors").write_bytes(b"cut off")
    (whole.tracks / f"{42:08d}.safetensors").unlink()
    resume(whole, World(), Show())
    assert {path.name: path.read_bytes() for path in whole.tracks.iterdir()} == files


def test_a_fork_has_the_history_of_the_run_it_came_from(run, tmp_path):
    runs = Path(shutil.copytree(run.path.parent, tmp_path / "runs"))
    child = fork(RunDirectory(runs / "a"), 48, {}, runs, "child")
    assert stated_error(child, 0.15) == stated_error(run, 0.15)
    shutil.rmtree(runs / "a")
    assert stated_error(child, 0.15) > 0.15


def test_a_damaged_snapshot_is_passed_over_and_the_error_says_so(run, tmp_path):
    hurt = RunDirectory(Path(shutil.copytree(run.path, tmp_path / "hurt")))
    for step in tracks.steps(hurt.tracks)[3:-1]:
        path = hurt.tracks / f"{step:08d}.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
        with pytest.raises(UserError, match="its digest does not match"):
            tracks.load(hurt.tracks, step)
    assert stated_error(hurt, 0.15) > 10 * stated_error(run, 0.15)


def test_no_tracks_no_snapshots(tmp_path):
    none = {**CHANGES, "train.steps": 4, "train.ema_lengths": []}
    run = begin(load("digits-class", none), tmp_path, "d", World(), Show())
    assert not run.tracks.exists()
    with pytest.raises(UserError, match="keeps no averages to choose from"):
        Run(run, ema_length=0.1)


def test_numbers_too_large_for_half_precision_are_kept_whole(tmp_path):
    values = {"track0.1.n.w": torch.tensor([1e6, 1.0]), "track0.1.n.b": torch.tensor([0.5])}
    tracks.save(tmp_path / "tracks", 7, values)
    kept = tracks.load(tmp_path / "tracks", 7)
    assert torch.equal(kept["track0.1.n.w"], values["track0.1.n.w"])
    assert kept["track0.1.n.b"].dtype == torch.float16


def test_a_link_in_the_place_of_a_snapshot_is_not_followed(tmp_path):
    tracks.save(tmp_path / "tracks", 7, {"track0.1.n.w": torch.zeros(2)})
    path = tmp_path / "tracks" / "00000007.safetensors"
    path.symlink_to(path.rename(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match=r"00000007\.safetensors: is a link"):
        tracks.load(tmp_path / "tracks", 7)
