"""The networks of a run at any step: from tape, checkpoint or recomputed, they draw the same pictures."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.loading.model import MATCHES
from safelight.loading.replay import Replay
from safelight.recipe import load
from safelight.run import Run
from safelight.samplers.generate import conditions
from safelight.store import checkpoint_files, frames, metrics
from safelight.store.directory import RunDirectory
from safelight.store.tape import TapeReader
from safelight.training.fork import fork
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY

TAPED = {**TINY, "tape.every": 5, "tape.keyframe": 3}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(runs):
    """30 steps, checkpoints at 10, 20, 30, a frame every 5."""
    return begin(load("digits-class", TAPED), runs, "city", World(), Show())


@pytest.fixture(scope="module")
def untaped(run, runs):
    """The same run without its tape, as a copy."""
    path = shutil.copytree(run.path, runs / "untaped")
    shutil.rmtree(path / frames.TAPE.folder)
    return RunDirectory(path)


def picture(replay: Replay, step: int) -> np.ndarray:
    """Ten samples at a step, (10, H, W, C) uint8."""
    model = replay.rounded(step)
    return model.generate(*conditions(model.spec, {}, 10, model.device), 0)


def test_a_tape_changes_no_weight(run, finished):
    taped, bare = (metrics.read(directory.path)["fingerprint"] for directory in (run, finished))
    assert (taped == bare).all()
    assert TapeReader(run.path).steps == [0, 5, 10, 15, 20, 25, 30]
    assert not (finished.path / frames.TAPE.folder).exists()


def test_a_frame_of_the_tape_is_pixel_for_pixel_the_replayed_one(run, untaped):
    lines: list[str] = []
    tape, replayed = Replay(run), Replay(untaped, lines.append)
    for step in (0, 5, 10, 15, 25, 30):
        assert tape.rounded(step).source == "tape"
        there = replayed.rounded(step)
        assert there.source == ("checkpoint" if step in (0, 10, 30) else "replay")
        assert there.verdict.verdict == {0: "initial weights", 10: MATCHES, 30: MATCHES}.get(step, "exact")
        assert (picture(tape, step) == picture(replayed, step)).all()
    assert lines == ["recomputing steps 0 to 5", "recomputing steps 10 to 15", "recomputing steps 20 to 25"]


def test_between_two_frames_it_is_recomputed(run):
    replay = Replay(run)
    for step in (12, 13, 12):
        reached = replay.rounded(step)
        assert (reached.source, reached.verdict.verdict, reached.verdict.start) == ("replay", "exact", 10)
        exact = Run(run, step, recompute=True).model.nets["denoiser"].state_dict()
        for name, weights in reached.nets["denoiser"].state_dict().items():
            assert torch.equal(weights, exact[name].to(torch.bfloat16).to(exact[name].dtype))


def test_a_damaged_frame_is_told_and_recomputed(run, untaped, runs):
    path = shutil.copytree(run.path, runs / "damaged")
    place = frames.scan(frames.files(path)[0]).places[1]
    data = bytearray(place.path.read_bytes())
    data[place.offset + 30] ^= 1
    place.path.write_bytes(data)
    lines: list[str] = []
    replay = Replay(RunDirectory(path), lines.append)
    sources = {step: replay.rounded(step).source for step in (0, 5, 10, 15)}
    assert sources == {0: "tape", 5: "replay", 10: "checkpoint", 15: "tape"}
    assert lines[0].endswith("the frame of step 5 is damaged")
    assert "that of step 10 needs it" in lines[2]
    assert (picture(replay, 5) == picture(Replay(untaped), 5)).all()


def test_a_crash_between_checkpoints_leaves_the_tape_as_without_it(run, runs):
    class Crash(Exception):
        pass

    def rows(seen) -> None:
        if seen[-1].step >= 17:
            raise Crash

    with pytest.raises(Crash):
        begin(load("digits-class", TAPED), runs, "crashed", World(), Show(rows=rows))
    crashed = RunDirectory(runs / "crashed")
    newest = frames.files(crashed.path)[-1]
    newest.write_bytes(newest.read_bytes()[:-5])  # torn by the crash
    resume(crashed, World(), Show())
    again, whole = TapeReader(crashed.path), TapeReader(run.path)
    assert again.steps == whole.steps
    for step in whole.steps:
        ours, theirs = again.read(step)["denoiser"], whole.read(step)["denoiser"]
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_fork_reaches_the_steps_before_it_through_its_parent(run, runs):
    child = resume(fork(run, 14, {"optim.lr": 1e-4}, runs, "child"), World(), Show())
    replay = Replay(child)
    assert TapeReader(child.path).steps == [15, 20, 25, 30]
    assert (picture(replay, 5) == picture(Replay(run), 5)).all()
    assert replay.rounded(5).source == "tape"
    assert (picture(replay, 30) != picture(Replay(run), 30)).any()
    assert replay.rounded(14).source == "checkpoint"
    before = Run(child).at(12)
    assert (before.name, before.verdict.verdict) == ("city", "exact")
    orphan = RunDirectory(shutil.copytree(child.path, runs / "elsewhere" / "orphan"))
    with pytest.raises(UserError, match="the run it was forked from is not in"):
        Replay(orphan).rounded(5)


def test_a_run_at_any_step_draws_what_a_checkpoint_there_would(run, runs):
    lost = RunDirectory(shutil.copytree(run.path, runs / "lost"))
    checkpoint_files.set_aside(checkpoint_files.directory(lost.path, 20))
    with pytest.raises(UserError, match=r"no checkpoint of step 20 .*run\.at\(step\) recomputes it"):
        Run(lost, 20)
    there = Run(lost).at(20)
    assert (there.verdict.verdict, there.verdict.start, there.step) == ("exact", 10, 20)
    kept = Run(run, 20)
    assert kept.verdict.checked == 0
    assert (there.sample(10, seed=3).images == kept.sample(10, seed=3).images).all()
    assert (Run(run).sample(10, seed=3).images != kept.sample(10, seed=3).images).any()
    other = Run(run).at(20, ema_length=0.12)
    assert (other.sample(10, seed=3).images != kept.sample(10, seed=3).images).any()


def test_what_the_tape_does_not_keep_is_said(run):
    with pytest.raises(UserError, match="'unet' has no averaged weights"):
        load("digits-class", {**TINY, "tape.networks": ["unet"]})
    with pytest.raises(UserError, match="samples need other"):
        Replay(run).rounded(5).nets["other"]
