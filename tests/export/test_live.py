"""A run in other tools: what it has written, no more, from a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from safelight.engine.distributed import World
from safelight.export import live
from safelight.recipe import load
from safelight.store import metrics
from safelight.training.progress import Show
from safelight.training.start import begin
from tiny import TINY

SHORT = TINY | {"train.steps": 4, "watch.every": 2, "watch.images": 2, "watch.held_out": 0}
FAKE = """
import json
def say(*words):
    with open({path!r}, "a") as file:
        file.write(json.dumps(words, default=str) + "\\n")
class Image(str): pass
class Info: run_id = "7"
class Opened:
    info = Info()
    def define_metric(self, *words, **keys): say("define", words, keys)
    def log(self, values, step=None): say("log", values, step)
    def finish(self): say("finish")
opened = Opened()
def init(**keys): say("init", keys); return opened
def log(values, step=None): say("log", values, step)
def finish(): say("finish")
def set_tracking_uri(uri): say("uri", uri)
def get_experiment_by_name(name): say("known", name)
def create_experiment(name, artifact_location): say("create", name, artifact_location)
def set_experiment(name): say("experiment", name)
def start_run(**keys): say("init", keys); return opened
def log_metrics(values, step): say("log", values, step)
def log_artifact(path, folder): say("log", {{"samples": path}}, None)
def end_run(): say("finish")
"""


def test_tensorboard_has_every_step_and_sheet_when_the_run_has_ended(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    warned: list[str] = []
    keys = SHORT | {"log.to": ["tensorboard"]}
    run = begin(load("digits-class", keys), tmp_path, "run", World(), Show(warn=warned.append))
    assert warned == []
    events = EventAccumulator(str(run.path / "logs" / "tensorboard"))
    events.Reload()
    seen = [(event.step, event.value) for event in events.Scalars("raw/mse")]
    columns = metrics.read(run.path)
    assert seen == [(step, pytest.approx(columns["raw/mse"][step])) for step in range(4)]
    assert [event.step for event in events.Images("samples")] == [2, 4]


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_the_others_by_what_they_are_called_with(name, finished, tmp_path, monkeypatch):
    import shutil

    from safelight.store.directory import RunDirectory

    run = RunDirectory(Path(shutil.copytree(finished.path, tmp_path / "run")))
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / f"{name}.py").write_text(FAKE.format(path=str(tmp_path / "said")))
    monkeypatch.syspath_prepend(str(tmp_path / "fake"))
    monkeypatch.delitem(sys.modules, name, raising=False)
    live.follow(run, 1, [name], lambda seconds: True)
    said = [json.loads(line) for line in (tmp_path / "said").read_text().splitlines()]
    assert said[-1] == ["finish"]
    logged = [words for words in said if words[0] == "log"]
    scalars = [
        (words[1].get("step", words[2]), words[1]["raw/mse"]) for words in logged if "raw/mse" in words[1]
    ]
    assert scalars == list(enumerate(metrics.read(run.path)["raw/mse"]))
    if name == "mlflow":  # all of it in the run
        folder = (run.path / "logs").resolve()
        assert ["uri", f"sqlite:///{folder / 'mlflow.db'}"] in said
        assert ["create", "safelight", (folder / "mlflow-files").as_uri()] in said
    pictures = [words[1]["samples"] for words in logged if "samples" in words[1]]
    assert pictures == [str(path) for path in sorted(run.sheets.glob("*.png"))]
    sys.modules.pop(name)


def test_a_tool_that_is_missing_or_fails_does_not_end_the_training(tmp_path, monkeypatch):
    warned: list[str] = []
    (tmp_path / "trackio.py").write_text("raise RuntimeError('no')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:" + ":".join(sys.path))
    keys = SHORT | {"log.to": ["trackio", "mlflow"]}
    run = begin(load("digits-class", keys), tmp_path / "runs", "run", World(), Show(warn=warned.append))
    assert metrics.last_row(run.path).step == 3
    assert any("mlflow is not installed" in line for line in warned)
    assert any("ended with an error" in line for line in warned)
