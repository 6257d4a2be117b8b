"""What several processes make of a run is what one makes: replays, films, evaluations, searches, packs."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from data.files import save as save_image
from data.files import unlike
from killing import LINUX, killing
from programs import Blocks, save
from safelight.api.prepare import check, check_all
from safelight.config import UserError
from safelight.data import open_data
from safelight.data.config import Data
from safelight.evaluate.features import Features
from safelight.evaluate.measure import real_features
from safelight.explore.film import Making, through_training
from safelight.explore.search.settings import SearchRequest
from safelight.explore.search.split import read_split, run_split
from safelight.loading.model import ReplayVerdict
from safelight.loading.stretches import _together, replay_through
from safelight.report.comparison_page import write_comparison
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


def test_a_comparison_is_the_same(finished, tmp_path):
    runs = [RunDirectory(shutil.copytree(finished.path, tmp_path / name)) for name in ("first", "second")]
    here, there = (write_comparison(runs, tmp_path, "compare", on=on).to_dict() for on in (None, "local:2"))
    assert here == there


def test_a_pack_is_the_same(tmp_path, monkeypatch):
    for number in range(70):  # two blocks
        save_image(tmp_path / "photos" / f"{number}.png", unlike(number))
    packs = []
    for on in (1, "local:2"):
        monkeypatch.setenv("SAFELIGHT_CACHE", str(tmp_path / str(on)))
        packs.append(open_data(Data(path=str(tmp_path / "photos")), None, on))
    assert packs[0].fingerprint == packs[1].fingerprint
    np.testing.assert_array_equal(*(pack.images for pack in packs))


def test_recipes_are_checked_at_once(tmp_path):
    recipes = ["digits-class", "digits-denoise"]
    options = {"changes": {"network.width": 4, "train.batch_size": 12}, "fast": True, "runs": tmp_path}
    there = dict(check_all(recipes, on="local:2", **options))
    here = check(recipes[0], **options)
    assert set(there) == set(recipes)
    assert (there[recipes[0]].checks, there[recipes[0]].findings) == (here.checks, here.findings)


def test_features_of_real_images_are_computed_by_whoever_comes_first(monkeypatch, tmp_path):
    """Two that begin at once: the second waits, and reads."""
    monkeypatch.setenv("SAFELIGHT_CACHE", str(tmp_path))
    pack, computed, both = open_data(Data(source="digits")), [], threading.Barrier(2)
    extractor = SimpleNamespace(hash="h", rule="r", home="cpu")

    def extract(extractor, parts):
        computed.append(1)
        time.sleep(0.3)
        return Features(torch.zeros(20, 3))

    def ask(_):
        both.wait()
        return real_features(extractor, pack, pack.train[:20])

    monkeypatch.setattr("safelight.evaluate.measure.extract", extract)
    with ThreadPoolExecutor(2) as threads:
        assert len(list(threads.map(ask, range(2)))) == 2
    assert computed == [1]
