"""What several processes make of a run is what one makes: replays, films, evaluations, searches."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from killing import LINUX, killing
from programs import Blocks, save
from safelight.config import UserError
from safelight.explore.film import Making, through_training
from safelight.explore.search.settings import SearchRequest
from safelight.explore.search.split import read_split, run_split
from safelight.loading.model import ReplayVerdict
from safelight.loading.stretches import _together, replay_through
from safelight.run import Run
from safelight.store.directory import RunDirectory


def test_every_step_is_recomputed_between_checkpoints(finished):
    here, lines = replay_through(finished, 0, 25), list[tuple[str, int, int]]()
    there = replay_through(finished, None, 25, "local:2", lambda *line: lines.append(line))
    assert here == there == ReplayVerdict("exact", 25, 0, 25)
    assert [done for _, done, _ in lines] in ([0, 10, 20, 25], [0, 10, 15, 25], [0, 5, 15, 25])
    assert replay_through(finished, 12, 25) == ReplayVerdict("exact", 25, 10, 15)
    with pytest.raises(UserError, match="--from 25: whole has steps from 0, and --step is 25"):
        replay_through(finished, 25, 25)


def test_the_whole_state_at_a_checkpoint_has_to_be_that_of_it(finished, monkeypatch):
    digests = finished.digests()
    monkeypatch.setattr(RunDirectory, "digests", lambda self: digests | {20: digests[30]})
    assert replay_through(finished, 15, 20) == ReplayVerdict("diverged", 20, 10, 10, 19)


def test_stretches_together_are_as_sure_as_the_least_sure():
    first, second = ReplayVerdict("exact", 10, 0, 10), ReplayVerdict("exact", 20, 10, 10)
    doubt = ReplayVerdict("environment differs", 20, 10, 10, why=("threads",))
    worse = ReplayVerdict("diverged", 30, 20, 4, 24)
    assert _together([first, second]) == ReplayVerdict("exact", 20, 0, 20)
    assert _together([first, doubt]) == ReplayVerdict("environment differs", 20, 0, 20, None, ("threads",))
    assert _together([first, doubt, worse]) == ReplayVerdict("diverged", 30, 0, 24, 24, ("threads",))


@LINUX
def test_a_film_is_the_same_although_a_worker_is_killed(finished, tmp_path):
    def frames(name: str) -> np.ndarray:
        return np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / name).glob("*.png"))])

    here = through_training(finished, ["30.1"], Making(tmp_path / "here"), 1, 29, 1)
    with killing(1, seconds=(2, 3)):
        there = through_training(finished, ["30.1"], Making(tmp_path / "there", on="local:2"), 1, 29, 1)
    np.testing.assert_array_equal(frames("here"), frames("there"))
    assert here.sources == there.sources


def test_an_evaluation_is_the_same(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("safelight.samplers.generate.CHUNK", 20)
    save(Blocks(), tmp_path / "blocks.pt")
    run, how = Run(finished), {"sample.steps": 2}
    here, there = (run.evaluate(50, str(tmp_path / "blocks.pt"), reference=200, how=how, on=on)
                   for on in (None, "local:2"))  # fmt: skip
    assert here == there


def test_a_split_is_the_same(finished, tmp_path):
    (tmp_path / "judge.py").write_text("def dark(images): return -images.mean((1, 2, 3))\n")
    runs = [RunDirectory(shutil.copytree(finished.path, tmp_path / name)) for name in ("here", "there")]
    request = SearchRequest(
        objectives=(f"{tmp_path}/judge.py:dark",), method="ga", sample={"sample.steps": 1}
    )
    here, there = (run_split(run, request, read_split("4x2,2x4", None), 1, on=on)["rows"]
                   for run, on in zip(runs, (None, "local:2"), strict=True))  # fmt: skip
    assert here == there
