"""Data edits as interventions: exact, journalled, replayed, and the same training without a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import safelight as sl
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.loop import Job, _backward
from safelight.engine.state import State
from safelight.loading.replay import replay
from safelight.recipe import load
from safelight.store import metrics
from safelight.store.directory import RunDirectory
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY
from toys import SPEC, ToyContrast, ToyGan, ToyStream, plan

CPU = torch.device("cpu")

SHORT = TINY | {"watch.every": 50, "watch.held_out": 0, "checkpoint.every": 4, "train.steps": 8}


def made(runs: Path, name: str, recipe: str = "digits-class", **changes: object) -> RunDirectory:
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return begin(load(recipe, SHORT | keys), runs, name, World(), Show())


def fingerprints(run: RunDirectory) -> list[str]:
    return list(metrics.read(run.path)["fingerprint"])


def test_a_fork_of_step_0_without_a_class_is_the_training_without_it_from_the_start(tmp_path):
    whole = made(tmp_path, "whole")
    begun = made(tmp_path, "begun", data__without=["label=7"])
    fork = sl.fork("whole", 0, without=["7"], name="without7", runs=tmp_path).directory
    assert fingerprints(fork) == fingerprints(begun) != fingerprints(whole)
    assert fork.recipe_tree()["data"]["without"] == ["label=7"]
    again = sl.fork("without7", 4, without=["label=3"], name="both", train=False, runs=tmp_path)
    assert again.directory.recipe_tree()["data"]["without"] == ["label=7", "label=3"]


def test_weights_that_are_all_one_change_no_bit(tmp_path):
    plain, weighed = made(tmp_path, "plain"), made(tmp_path, "weighed", data__weight={"3": 1.0})
    assert fingerprints(plain) == fingerprints(weighed)


def test_a_live_edit_is_journalled_with_the_pixels_hash_resumed_and_replayed(tmp_path):
    whole = made(tmp_path, "whole")
    run = made(tmp_path, "run", train__steps=4)
    edit = sl.tune("run", {"data.without": "0002", "train.steps": 8}, runs=tmp_path)
    resume(run, World(), Show())
    (entry,) = run.journal().interventions
    assert entry.step == 4
    assert entry.changes["data.without"] == edit.changes["data.without"]
    (text,) = entry.changes["data.without"]
    assert text.startswith("0002@")
    assert len(text) == len("0002@") + 12
    assert fingerprints(run)[:4] == fingerprints(whole)[:4]
    assert replay(run, 7)[1].verdict == "exact"


def test_pixels_of_a_left_out_picture_never_matter(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (40, 28, 28, 1), np.uint8), np.arange(40) % 10
    prints = []
    for name in ("a", "b"):
        images[7] = rng.integers(0, 255, (28, 28, 1), np.uint8)
        path = tmp_path / f"{name}.npz"
        np.savez(path, x_train=images[:36], y_train=labels[:36], x_test=images[36:], y_test=labels[36:])
        keys = {"data__path": str(path), "data__without": ["train/07"], "train__steps": 5}
        prints.append(fingerprints(made(tmp_path, name, **keys)))
    assert prints[0] == prints[1]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("method", [ToyGan, ToyContrast])
def test_the_gradient_is_that_of_the_weighted_sum_of_the_rows_losses(method, parts):
    """Also where a loss is of the whole batch: g(w) = sum w_r g_r / B."""
    weights = torch.tensor([0.0, 2.0, *[1.0] * 10])

    def gradient(weight: torch.Tensor) -> torch.Tensor:
        made = method()
        job = Job(made, State(made, SPEC, plan(made), CPU, "contiguous"), ToyStream(), None, None, None)
        phase = made.phases[0]
        batch = [replace(part, weight=weight) for part in ToyStream().parts(0, parts, 0, 1)]
        _backward(job, phase, batch, 0, dict.fromkeys(made.components, 1.0), 0, None)
        trained = [p for name in phase.trains for p in job.state.nets[name].parameters()]
        return torch.cat(
            [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in trained]
        )

    rows = torch.stack([gradient(row) for row in torch.eye(12)])
    torch.testing.assert_close(gradient(weights), weights @ rows, atol=1e-6, rtol=1e-4)


def test_refusals(tmp_path):
    made(tmp_path, "run")
    with pytest.raises(UserError, match=r"has no image and no class 'cat/1.png'"):
        sl.fork("run", 0, without=["cat/1.png"], runs=tmp_path)
    listed = tmp_path / "gone.txt"
    listed.write_text("0002\n\n0003\n")
    fork = sl.fork("run", 0, without=[str(listed)], name="listed", train=False, runs=tmp_path)
    assert [text[:5] for text in fork.directory.recipe_tree()["data"]["without"]] == ["0002@", "0003@"]
    with pytest.raises(UserError, match=r"data.flip: cannot be edited in a run"):
        sl.tune("run", {"data.flip": True}, runs=tmp_path)
