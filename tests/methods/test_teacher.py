"""A MeanFlow taught by a finished flow: its velocity, its weights, and what is no teacher."""

from __future__ import annotations

import pytest
import tomli_w
import torch

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.loading.replay import Replay
from safelight.methods.meanflow import MeanFlow, MeanFlowConfig, begin_with
from safelight.networks.finished_flow import FinishedFlow, FinishedFlowConfig
from safelight.networks.unet import UNetConfig
from safelight.recipe import load
from safelight.run import Run
from safelight.store import checkpoint, checkpoint_files
from safelight.training.progress import Show
from safelight.training.stages import train_stages
from safelight.types import Condition, DataSpec

SPEC = DataSpec((1, 4, 4), {"label": Condition("label", 2)})
GIVEN, PRESENT = {"label": torch.tensor([0, 1, 1])}, torch.tensor([True, True, False])
SHORT = {
    "train.steps": 3, "train.batch_size": 8, "train.precision": "fp32", "train.memory_format": "contiguous",
    "train.device": "cpu", "train.ema_lengths": [], "watch.every": 3, "watch.images": 4, "watch.held_out": 8,
    "checkpoint.every": 3, "check.before_training": False, "monitor.warmup": 0.99,
}  # fmt: skip


def network(**keys) -> torch.nn.Module:
    net = UNetConfig(width=8, multipliers=(1,), embedding=16, **keys).build(SPEC)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.parametrize("prediction", ["v", "x0", "epsilon"])
def test_the_velocity_of_any_prediction(prediction):
    (x, ε), t = torch.randn(2, 3, 1, 4, 4), torch.tensor([0.2, 0.5, 0.9])
    x_t = (1 - t.view(-1, 1, 1, 1)) * x + t.view(-1, 1, 1, 1) * ε
    out = {"v": ε - x, "x0": x, "epsilon": ε}[prediction]
    teacher = FinishedFlow(lambda *inputs: out, prediction)
    torch.testing.assert_close(teacher(x_t, t, GIVEN, PRESENT), ε - x)


def test_training_begins_with_the_teacher_whatever_the_length_of_a_step():
    teacher, student = network(), network(interval=True)
    begin_with(student, teacher)
    x, t = torch.randn(3, 1, 4, 4), torch.tensor([0.2, 0.5, 0.9])
    for length in (0.0, 0.7):
        out = student(x, torch.stack([t, torch.full((3,), length)], 1), GIVEN, PRESENT)
        torch.testing.assert_close(out, teacher(x, t, GIVEN, PRESENT))
    with pytest.raises(UserError, match="differs from the teacher's in more than interval"):
        begin_with(student, UNetConfig(width=16, multipliers=(1,)).build(SPEC))


def test_targets_are_the_teachers_guided_velocity():
    teacher = FinishedFlow(network(), "v")
    made = MeanFlow(
        MeanFlowConfig(guidance=2.0), {"denoiser": UNetConfig(interval=True), "teacher": FinishedFlowConfig()}
    )
    assert made.frozen == ("teacher",)
    x, t = torch.randn(3, 1, 4, 4), torch.tensor([0.2, 0.5, 0.9])
    none = torch.zeros(0, dtype=torch.long)
    target = made.target({"teacher": teacher, "denoiser": None}, x, None, t, t, GIVEN, PRESENT, none)
    with torch.no_grad():
        conditional = teacher(x, t, GIVEN, PRESENT)
        free = teacher(x, t, GIVEN, torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(target, free + 2 * (conditional - free))


def test_a_run_is_taught_by_another_and_replays(tmp_path):
    stage = tmp_path / "flow.toml"
    flow = load("digits", {**SHORT, "network.width": 8, "network.multipliers": [1]})
    stage.write_text(tomli_w.dumps(flow.tree))
    tiny = {"network.denoiser.width": 8, "network.denoiser.multipliers": [1]}
    recipe = load("digits-1step", {**SHORT, **tiny, "network.teacher.path": f"recipe:{stage}"})
    run = train_stages(recipe, tmp_path / "runs", "student", World(), Show)
    saved = checkpoint.load(checkpoint_files.directory(run.path, 3))["networks"]
    assert not [key for key in saved if key.startswith("teacher.")]
    assert Replay(run).exact(2).verdict.verdict == "exact"
    assert Run(run).sample(2).images.shape == (2, 28, 28, 1)
    for changes, message in (
        ({"data.labels": False}, r"flow-\w+ is of 1x28x28, label of 10, these are 1x28x28"),
        ({"network.denoiser.width": 16}, "differs from the teacher's in more than interval"),
    ):
        with pytest.raises(UserError, match=message):
            train_stages(
                load("digits-1step", {**SHORT, **tiny, "network.teacher.path": f"recipe:{stage}", **changes}),
                tmp_path / "runs", "b", World(), Show,
            )  # fmt: skip
