"""Which training images made a sample, on a run: ranks, weights in force, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch

from command_line import run
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.gradients import SampleGradients
from safelight.explore.influence import _spread, influence
from safelight.explore.specimens import develop, parse_specimen, start_of
from safelight.loading.replay import Replay
from safelight.recipe import load
from safelight.training.progress import Show
from safelight.training.start import begin
from safelight.types import Batch
from tiny import TINY

SMALL = TINY | {
    "watch.every": 50,
    "watch.held_out": 0,
    "train.steps": 6,
    "checkpoint.every": 3,
    "network.width": 4,
}


def test_ranks_are_those_of_the_gradients_and_what_does_not_count_is_no_cause(tmp_path, monkeypatch, capsys):
    keys = {**SMALL, "data.held_out": 0.97}
    made = begin(load("digits-class", keys | {"data.without": ["label=3"]}), tmp_path, "a", World(), Show())
    found = influence(made, "6.2", by="tracin", checkpoints=1, draws=2, size=512)
    assert found.steps == (6,)
    replay = Replay(made)
    model = replay.rounded(6)
    start = start_of(parse_specimen("6.2"), model)
    sample = Batch(develop(start, model), start.given, start.present, range(1), 1)
    replay.go_to(6)
    rows = SampleGradients(replay.method, replay.state.nets, {"mse": 1.0}, {}, 0, 2, 512, 6)
    pack = model.data.stream().pack
    scores = rows.of(model.data.stream().pick(pack.train)) @ rows.of(sample)[0]
    scores[torch.from_numpy(pack.given["label"][pack.train] == 3)] = 0
    scores /= scores.std()
    assert found.items.tolist() == pack.train[scores.argsort(descending=True).numpy()].tolist()
    assert torch.allclose(torch.from_numpy(found.scores), scores.sort(descending=True).values, atol=1e-4)
    words = ["influence", "a", "6.2", "--checkpoints", "1", "--draws", "2", "--top", "3"]
    sheet = tmp_path / "causes.png"
    code, out, err = run(monkeypatch, capsys, *words, "--out", str(sheet), "--json", "--runs", str(tmp_path))
    assert code == 0, err
    facts = json.loads(out)
    assert [cause["rank"] for cause in facts["causes"]] == [1, 2, 3]
    assert facts["by"] == "whitened"
    assert sheet.is_file()


def test_checkpoints_are_spread_up_to_the_sample():
    assert _spread([0, 100, 200, 300, 400], 300, 2) == (200, 300)
    assert _spread([0, 100, 200, 300, 400, 500, 600], 600, 3) == (200, 400, 600)
    assert _spread([50], 70, 3) == (50,)
    with pytest.raises(UserError, match="no checkpoint is kept up to step 40"):
        _spread([0, 50], 40, 3)
