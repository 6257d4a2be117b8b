"""Pictures with alpha as a fourth channel through every family, a second run, an evaluation and an export."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from safelight.config import UserError
from safelight.data.images import straight
from safelight.engine.distributed import World
from safelight.export.diffusers import write_diffusers
from safelight.loading.replay import Replay
from safelight.recipe import load
from safelight.run import Run
from safelight.store import metrics
from safelight.training.fork import fork
from safelight.training.progress import Show
from safelight.training.start import begin, resume

SHORT = {
    "train.steps": 6, "train.batch_size": 8, "train.precision": "fp32", "train.memory_format": "contiguous",
    "train.ema_lengths": [], "watch.every": 6, "watch.images": 4, "checkpoint.every": 3,
    "monitor.warmup": 0.99, "data.size": 16, "data.channels": 4, "data.background": "#204060",
}  # fmt: skip
DIFFUSION = {"network.width": 8, "network.embedding": 16, "sample.steps": 2, "watch.held_out": 8}


@pytest.fixture(scope="module")
def stickers(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("transparent"), np.random.default_rng(0)
    for number in range(30):
        pixels = rng.integers(0, 256, (16, 16, 4), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return str(folder)


@pytest.fixture(scope="module")
def run(stickers, tmp_path_factory):
    recipe = load("fashion", SHORT | DIFFUSION | {"data.path": stickers})
    return begin(recipe, tmp_path_factory.mktemp("runs"), "stickers", World(), Show())


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("fashion-gan", {"train.steps": 2}),
        ("fashion-vae", {"train.steps": 2}),
    ],
)
def test_other_families_train_and_draw_four_channels(stickers, tmp_path, recipe, changes):
    run = begin(load(recipe, SHORT | changes | {"data.path": stickers}), tmp_path, "r", World(), Show())
    assert Run(run).sample(2).images.shape == (2, 16, 16, 4)


def test_a_replayed_step_is_exact_and_a_fork_goes_the_same_way(run, tmp_path):
    assert Replay(run).exact(5).verdict.verdict == "exact"
    forked = fork(run, 3, {}, tmp_path, "f")
    resume(forked, World(), Show())
    assert list(metrics.read(forked.path)["fingerprint"]) == list(metrics.read(run.path)["fingerprint"])[3:]


def test_saved_samples_have_the_colours_under_alpha(run, tmp_path):
    samples = Run(run).sample(3)
    samples.save(tmp_path / "s.npz")
    assert samples.images.shape == (3, 16, 16, 4)
    saved = np.load(tmp_path / "s.npz")["images"]
    assert np.array_equal(saved, straight(samples.images, "#204060"))
    assert (saved[..., :3] != samples.images[..., :3]).any()


def test_an_evaluation_is_of_the_colours(run):
    assert "FD-random" in Run(run).evaluate(n=12, features="random").results


def test_what_cannot_hold_alpha_says_so(run, tmp_path):
    from safelight.export.browser import portable

    with pytest.raises(UserError, match=r"data.channels=4: a diffusers pipeline draws no alpha"):
        write_diffusers(Run(run).model, tmp_path / "d")
    with pytest.raises(UserError, match=r"data.channels=4: a page draws no transparent samples"):
        portable(run, [6])
