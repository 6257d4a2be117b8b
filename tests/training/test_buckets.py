"""A run on aspect ratio buckets is what its recipe and data say: killed, resumed, replayed, forked."""

from __future__ import annotations

import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from safelight.config import UserError
from safelight.data.stream import Stream
from safelight.engine.distributed import World
from safelight.loading.replay import Replay
from safelight.recipe import load
from safelight.run import Run
from safelight.store import checkpoint_files, metrics
from safelight.store.directory import RunDirectory
from safelight.training.fork import fork
from safelight.training.progress import Show
from safelight.training.start import begin, resume

SHORT = {
    "train.steps": 12, "train.batch_size": 8, "train.precision": "fp32", "train.memory_format": "contiguous",
    "train.ema": 0.9, "train.ema_lengths": [], "network.width": 8, "network.embedding": 16, "watch.every": 12,
    "watch.images": 4, "checkpoint.every": 4, "sample.steps": 2, "monitor.warmup": 0.99, "data.size": 16,
    "data.buckets": 3, "data.flip": True, "data.captions": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("buckets"), np.random.default_rng(0)
    for number in range(40):
        height, width = [(16, 16), (12, 24), (24, 12)][number % 3]
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        path = folder / f"d/{'ab'[number % 2]}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder / "d"


@pytest.fixture(scope="module")
def recipe(folder):
    return load("fashion", SHORT | {"data.path": str(folder)})


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    return begin(recipe, tmp_path_factory.mktemp("whole"), "whole", World(), Show())


def digest(run: RunDirectory) -> str:
    last = checkpoint_files.list_steps(run.path)[-1]
    return checkpoint_files.read(checkpoint_files.directory(run.path, last)).digest


def fingerprints(run: RunDirectory) -> list[str]:
    return list(metrics.read(run.path)["fingerprint"])


def test_killed_and_resumed_equals_uninterrupted(recipe, whole, tmp_path, monkeypatch):
    parts = Stream.parts

    def interrupting(stream, step, *share):
        if step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return parts(stream, step, *share)

    with monkeypatch.context() as patch:
        patch.setattr(Stream, "parts", interrupting)
        run = begin(recipe, tmp_path, "b", World(), Show())
    steps = checkpoint_files.list_steps(run.path)
    assert steps[-1] == 7
    shutil.rmtree(checkpoint_files.directory(run.path, steps[-1]))  # as kill -9 would have left it
    resume(run, World(), Show())
    assert digest(run) == digest(whole)
    assert fingerprints(run) == fingerprints(whole)


def test_a_replayed_step_is_exact_and_a_fork_goes_the_same_way(whole, tmp_path):
    assert Replay(whole).exact(7).verdict.verdict == "exact"
    forked = fork(whole, 4, {}, tmp_path, "f")
    resume(forked, World(), Show())
    assert digest(forked) == digest(whole)


def test_samples_of_every_bucket_and_of_any_size_that_divides(whole):
    run = Run(whole)
    shapes = [tuple(bucket[:2]) for bucket in whole.info().facts.data["buckets"]]
    assert len(shapes) == 3
    assert whole.info().facts.data["train"] == sum(bucket[2] for bucket in whole.info().facts.data["buckets"])
    assert run.sample(2).images.shape[1:3] == shapes[0]
    for shape in [*shapes, (16, 48)]:
        images = run.sample(3, size=shape, label="a").images
        assert images.shape == (3, *shape, 3)
        assert np.array_equal(images, run.sample(3, size=shape, label="a").images)
    assert np.array_equal(run.sample(2).images, run.sample(2, size=shapes[0]).images)
    with pytest.raises(UserError, match=r"--size 18x48: the networks need multiples of 4"):
        run.sample(1, size=(18, 48))


def test_other_networks_are_of_one_size(finished):
    with pytest.raises(UserError, match=r"--size: digits_unet .* is for images of one size"):
        Run(finished).sample(1, size=(32, 28))
