"""safelight evaluate as a person meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from command_line import run
from programs import Blocks, save


@pytest.fixture(scope="module")
def runs(finished, tmp_path_factory) -> Path:
    """A directory with one finished run, "first", and a TorchScript file beside it."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(finished.path, folder / "first")
    save(Blocks(), folder / "blocks.pt")
    return folder


@pytest.fixture
def evaluate(monkeypatch, capsys, runs):
    def evaluate(*words: str, command: str = "evaluate") -> tuple[int, str, str]:
        """Exit code, stdout and stderr of `safelight evaluate first WORDS`."""
        return run(monkeypatch, capsys, command, "first", *words, "--runs", str(runs))

    return evaluate


def test_an_evaluation_is_printed_stored_and_reported(evaluate, runs):
    words = ("--n", "40", "--features", str(runs / "blocks.pt"), "--reference", "800")
    code, out, err = evaluate(*words, "sample.steps=2", "--json")
    assert code == 0
    assert (
        err.strip()
        == f"{runs}/blocks.pt: loading and running the program in this file; use only files you trust"
    )
    printed = json.loads(out)
    assert printed["step"] == 30
    assert list(printed["results"])[:2] == ["FD-blocks", "KID-blocks"]
    assert printed["basis"]["n"] == "40"
    assert "steps 2" in printed["basis"]["sampling"]
    assert "guidance 5.0" in printed["basis"]["sampling"]
    assert printed["basis"]["weights"] == "average with decay 0.9"
    assert printed["results"]["FD-blocks"]["floor"] < printed["results"]["FD-blocks"]["value"]
    assert printed["floor"] == "held-out images against training images, 40 against 800"
    stored = Path(printed["stored"])
    assert stored.parent == runs / "first" / "evaluations"
    again = json.loads(evaluate(*words, "sample.steps=2", "--json")[1])
    assert again == printed  # same seed, same numbers, same file
    code, out, _ = evaluate(*words)
    assert code == 0
    assert "real against real" in out
    assert "sampling:    sampler ancestral, steps 4, guidance 5.0" in out
    assert len(list(stored.parent.glob("*.json"))) == 2
    report = (runs / "first" / "report.md").read_text()
    assert "## Measurements" in report
    assert "held-out images against training images, 40 against 800" in report
    assert "real against real" in report


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--features", "efficentnet"), "did you mean 'efficientnet'"),
        (("--step", "17"), "first: has no checkpoint of step 17 (kept: 10, 20, 30)"),
        (("--step", "best"), "first: no checkpoint has the name 'best'"),
        (("optim.lr=1",), "optim.lr: only keys of [sample] can be changed here"),
        (("sample.guidence=1",), "did you mean 'sample.guidance'"),
    ],
)
def test_mistakes_are_told_in_one_line(evaluate, words, message):
    code, out, err = evaluate("--n", "20", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_changed_data_is_refused(evaluate, runs, monkeypatch):
    from safelight.loading import recorded

    opened = recorded.open_data

    def other(config, progress=None):
        return opened(config.model_copy(update={"size": 20}), progress)

    monkeypatch.setattr(recorded, "open_data", other)
    code, _, err = evaluate("--n", "20", "--features", str(runs / "blocks.pt"))
    assert code == 2
    assert "the data has changed since the run began" in err
