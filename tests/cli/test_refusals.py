"""What is refused leaves nothing behind; what is left undone is told in one line."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import run
from safelight.config import UserError, install
from safelight.engine.plan import Optim, too_large
from safelight.recipe import load
from safelight.recipes import names
from safelight.samplers.generate import require_known
from safelight.types import Condition, DataSpec

SMALL = ["network.width=8", "network.middle=1", "train.batch_size=4", "train.precision=fp32", "train.steps=2",
         "train.memory_format=contiguous", "watch.images=2", "watch.held_out=4"]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("network.width=60000", "the networks take at least"),
        ("train.batch_size=1000000000000", "the images of a step take at least"),
        ("network.multipliers=[0]", "network.multipliers.0: 0 should be"),
        ("train.device=meta", "train.device: 'meta' is not available here"),
    ],
)
def test_a_training_that_cannot_begin_leaves_nothing(word, message, monkeypatch, capsys, tmp_path):
    code, out, err = run(monkeypatch, capsys, "train", "digits", *SMALL, word, "--runs", str(tmp_path))
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"safelight: {message}")
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_before_its_first_step_is_not_left(monkeypatch, capsys, tmp_path):
    def broken(*arguments):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: tried 8 bytes")

    monkeypatch.setattr("safelight.training.session.train", broken)
    code, _, err = run(monkeypatch, capsys, "train", "digits", *SMALL, "--runs", str(tmp_path))
    assert (code, err.splitlines()[-1].split(";")[0]) == (2, "safelight: the memory is exhausted")
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class NetworksOnly:
    """What of a model an export touches before its writer."""

    nets: Mapping[str, object]
    how: object = None


def test_a_failed_export_leaves_no_folder(finished, monkeypatch, tmp_path):
    from safelight.export import networks

    def broken(trained, out):
        (out / "half").write_text("half")
        raise UserError("no")

    def whole(trained, out):
        (out / "model").write_text("whole")
        return [f"open {out}/model"]

    out, model = tmp_path / "a" / "b", NetworksOnly({})
    monkeypatch.setitem(networks.WRITERS, "onnx", broken)
    with pytest.raises(UserError, match="no"):
        networks.export_networks(model, "onnx", out)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(networks.WRITERS, "onnx", whole)
    assert networks.export_networks(model, "onnx", out) == [f"open {out}/model"]
    assert [path.name for path in out.iterdir()] == ["model"]
    with pytest.raises(UserError, match="exists already"):
        networks.export_networks(model, "onnx", out)


def test_values_that_a_condition_does_not_have_are_refused_without_networks():
    conditions = {
        "label": Condition("label", 3, ("10", "20", "red")),
        "attributes": Condition("attributes", 2, ("hair", "age")),
    }
    spec = DataSpec((3, 8, 8), conditions)
    for good in ({"label": "20"}, {"label": "each"}, {"label": "none"}, {"hair": "1"}, {"attributes": "0,1"}):
        require_known(spec, good, (0, 1))
    for bad in ({"label": "1"}, {"label": "Red"}, {"lable": "red"}, {"hair": "1.5"}, {"hair": "nan"},
                {"attributes": "0,-1"}, {"attributes": "0"}):  # fmt: skip
        with pytest.raises(UserError):
            require_known(spec, bad, (0, 1))
    named = DataSpec((3, 8, 8), {"label": Condition("label", 3, ("a", "b", "c"))})
    require_known(named, {"label": "2"})
    for bad in ("3", "-1", "1.0", "\u00b2"):
        with pytest.raises(UserError):
            require_known(named, {"label": bad})


def test_a_sweep_stops_when_every_combination_would_fail_alike(monkeypatch, capsys, tmp_path):
    words = ["sweep", "digits", f"data.path={tmp_path}/nowhere", "optim.lr=1e-3,2e-3,3e-3,4e-3", "--json"]
    code, out, _ = run(monkeypatch, capsys, *words, "--runs", str(tmp_path / "runs"))
    assert code == 1
    outcomes = [cell["outcome"] for cell in json.loads(out)["cells"]]
    assert outcomes == ["failed", "failed", "not begun", "not begun"]


def test_a_learning_rate_that_slipped_is_told():
    refusal = "optim.lr: 2 is far above what Adam takes, 1e-5 to 1e-2; is 0.002 meant?"
    assert too_large({"a": Optim(lr=2.0), "b": Optim(lr=2.0), "c": Optim(lr=2e-3)}) == [refusal]
    for name in names():
        assert not too_large(load(name).optim)


def test_train_tells_of_it(monkeypatch, capsys):
    _, _, err = run(monkeypatch, capsys, "train", "digits", *SMALL, "optim.lr=2", "train.device=meta")
    assert "optim.lr: 2 is far above" in err


def test_what_an_extra_needs_can_be_installed_as_it_is_said():
    extras = importlib.metadata.metadata("safelight").get_all("Provides-Extra")
    for extra in set(extras) - {"dev"}:
        python, dash, module, verb, *wanted = shlex.split(install(extra))
        assert (python, dash, module, verb) == (sys.executable, "-m", "pip", "install")
        assert wanted
        assert all(
            re.fullmatch(r"[A-Za-z0-9_.-]+(\[\w+\])?[><=!~0-9.,]*", requirement) for requirement in wanted
        )
        assert not any(requirement.startswith("safelight") for requirement in wanted)


@pytest.fixture
def unlabelled(tmp_path, monkeypatch):
    """A run on pictures without classes, where efficientnet is not installed."""
    from safelight.engine.distributed import World
    from safelight.training.progress import Show
    from safelight.training.start import begin
    from tiny import TINY

    draw = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (28, 28), np.uint8)).save(path)
    changes = {**TINY, "train.steps": 2, "watch.every": 2, "train.ema_lengths": [],
               "network.classes": False, "data.path": str(tmp_path / "photos")}  # fmt: skip
    monkeypatch.setattr("safelight.evaluate.extractors.find_spec", lambda name: None)
    begin(load("digits-class", changes), tmp_path / "runs", "run", World(), Show())
    return tmp_path / "runs"


def test_unlabelled_data_need_no_extra(unlabelled, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    where = ["--runs", str(unlabelled), "--json"]
    code, out, err = run(monkeypatch, capsys, "evaluate", "run", "--n", "20", "--reference", "20", *where)
    assert code == 0, err
    measured = json.loads(out)
    assert measured["extractor"] == "random"
    assert measured["results"]["FD-random"]["value"] > 0
    assert "using random features, which ignore content; for better ones run: " in err
    words = ["--objective", "reference=photos/0.png", "--method", "random", "--population", "4"]
    code, out, err = run(monkeypatch, capsys, "search", "run", *words, "--generations", "2", *where)
    assert code == 0, err
    assert "random " in json.dumps(json.loads(out)["objectives"])


def test_random_features_are_the_same_everywhere_and_tell_colours_apart():
    from safelight.evaluate.random_features import open_random

    torch.manual_seed(1)
    first = open_random(3, torch.device("cpu"))
    torch.manual_seed(2)
    second = open_random(3, torch.device("cpu"))
    assert first.hash == second.hash
    flat = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    flat[1, 0], flat[2, 1] = 255, 255
    features, classes = first.network(flat)
    assert (features.shape, classes) == ((3, 128), None)
    distances = torch.cdist(features, features)[~torch.eye(3, dtype=torch.bool)]
    assert float(distances.min()) > 0.1


def test_version_and_completion(monkeypatch, capsys):
    from safelight import __version__

    assert run(monkeypatch, capsys, "--version")[:2] == (0, f"safelight {__version__}\n")
    code, out, _ = run(monkeypatch, capsys, "--show-completion", "bash")
    assert (code, "_SAFELIGHT_COMPLETE=complete_bash" in out) == (0, True)
    monkeypatch.setenv("_SAFELIGHT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "safelight re")
    monkeypatch.setenv("COMP_CWORD", "1")
    _, out, _ = run(monkeypatch, capsys)
    assert out.split() == ["resume", "recipes", "replay", "report"]


def test_a_file_that_cannot_be_opened_is_one_line(monkeypatch, capsys, tmp_path):
    code, out, err = run(monkeypatch, capsys, "data", "inspect", "a" * 300)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert Path("a" * 300).name in err
