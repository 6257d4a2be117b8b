"""A run is what its recipe, data and journal say: killed, resumed, edited or watched."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.report.facts import gather
from safelight.report.run_drawings import panels_blocks
from safelight.run import Run
from safelight.store import checkpoint_files, inbox, metrics
from safelight.store.directory import RunDirectory, find
from safelight.training.progress import Show
from safelight.training.start import begin, resume


def trained(tiny, runs: Path, name: str, **changes) -> RunDirectory:
    recipe = load("digits-class", tiny | changes)
    return begin(recipe, runs, name, World(), Show())


def digest(run: RunDirectory) -> str:
    return checkpoint_files.read(
        checkpoint_files.directory(run.path, checkpoint_files.list_steps(run.path)[-1])
    ).digest


def fingerprints(run: RunDirectory) -> list[str]:
    return list(metrics.read(run.path)["fingerprint"])


@pytest.fixture(scope="module")
def whole(finished):
    return finished


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    from tiny import TINY

    runs = tmp_path_factory.mktemp("stopped")
    return begin(load("digits-class", TINY), runs, "b", World(), interrupted_at(10, signal.SIGINT))


@pytest.fixture
def stopped(stopped_once, tmp_path) -> RunDirectory:
    """A run that Ctrl-C stopped soon after step 10, to go on with: a copy of the same one each time."""
    return RunDirectory(Path(shutil.copytree(stopped_once.path, tmp_path / "b")))


def interrupted_at(step: int, number: int) -> Show:
    """A show that sends its own process a signal, once, when so many steps are recorded."""
    sent = threading.Event()

    def rows(seen) -> None:
        if seen[-1].step + 1 >= step and not sent.is_set():
            sent.set()
            os.kill(os.getpid(), number)

    return Show(rows=rows)


def test_stopped_by_ctrl_c_and_resumed_equals_uninterrupted(stopped, whole):
    run = stopped
    end = run.journal().of_kind("end")[-1]
    assert end.fields["status"] == "stopped"
    stopped = end.fields["step"]
    assert 10 <= stopped < 30
    assert checkpoint_files.list_steps(run.path)[-1] == stopped  # nothing was lost
    resume(run, World(), Show())
    assert digest(run) == digest(whole)
    assert fingerprints(run) == fingerprints(whole)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tiny import TINY
from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from safelight.store.directory import find
runs = Path({runs!r})
if (runs / "b").exists():
    resume(find("b", runs), World(), Show())
else:
    begin(load("digits-class", TINY), runs, "b", World(), Show())
"""


def test_killed_at_any_moment_ends_in_the_same_weights(whole, tmp_path):
    """kill -9 as soon as a new checkpoint begins to appear, again and again."""
    code = KILLED.format(tests=str(Path(__file__).parents[1]), runs=str(tmp_path))
    kills = 0
    while kills < 3:
        process = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
        before = set(checkpoint_files.list_steps(tmp_path / "b")) if (tmp_path / "b").exists() else set()
        while process.poll() is None:
            folder = tmp_path / "b" / "checkpoints"
            names = {path.name for path in folder.iterdir()} if folder.exists() else set()
            if any(name.startswith(".tmp") or (name.isdigit() and int(name) not in before) for name in names):
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        if process.wait() == 0:
            break
    assert kills >= 1
    run = resume(find("b", tmp_path), World(), Show())
    assert digest(run) == digest(whole)
    assert fingerprints(run) == fingerprints(whole)


def test_a_second_writer_is_refused(stopped):
    with stopped.lock(), pytest.raises(UserError, match=str(os.getpid())):
        resume(stopped, World(), Show())


def test_watching_changes_no_weight(tiny, whole, tmp_path):
    often = trained(tiny, tmp_path, "often", **{"watch.every": 3, "watch.images": 20, "checkpoint.every": 7})
    assert fingerprints(often) == fingerprints(whole)
    assert len(list(often.sheets.glob("*.png"))) == 10


def test_an_edit_takes_effect_at_its_step_and_survives_a_crash(stopped, whole):
    """Dropped while stopped: from the next step that never ran; the journal alone brings it back."""
    run = stopped
    step = run.journal().of_kind("end")[-1].fields["step"]
    inbox.drop(run.path, {"optim.lr": 0.02}, "test")
    resume(run, World(), Show())
    (edit,) = run.journal().interventions
    assert (edit.step, edit.changes) == (step, {"optim.lr": 0.02})
    columns, usual = metrics.read(run.path), metrics.read(whole.path)
    ratio = columns["lr/denoiser"] / usual["lr/denoiser"]
    assert list(ratio.round(6)) == [1] * step + [20] * (30 - step)
    same = [a == b for a, b in zip(fingerprints(run), fingerprints(whole), strict=True)]
    assert same == [True] * step + [False] * (30 - step)

    edited = digest(run)
    for kept in checkpoint_files.list_steps(run.path)[
        -2:
    ]:  # as if the newest checkpoints had never been written
        checkpoint_files.set_aside(checkpoint_files.directory(run.path, kept))
    resume(run, World(), Show())
    assert digest(run) == edited


def test_an_edit_dropped_while_it_trains_is_taken_at_a_step_boundary(tiny, tmp_path):
    run = tmp_path / "b"

    def rows(seen) -> None:
        if not inbox.waiting(run) and not dropped.is_set():
            dropped.set()
            inbox.drop(run, {"optim.lr": 0.03}, "test")

    dropped = threading.Event()
    directory = begin(
        load("digits-class", tiny | {"train.steps": 60}), tmp_path, "b", World(), Show(rows=rows)
    )
    (edit,) = directory.journal().interventions
    columns = metrics.read(directory.path)
    changed = columns["lr/denoiser"] > 2e-3
    assert list(changed) == [step >= edit.step for step in range(60)]


def test_an_edit_of_a_killed_run_waits_for_a_step_that_never_ran(tiny, whole, tmp_path):
    """Steps that were recorded but not saved are derived again as they were; the edit comes after them."""
    run = begin(load("digits-class", tiny), tmp_path, "b", World(), interrupted_at(12, signal.SIGINT))
    recorded = metrics.reached(run.path)
    checkpoint_files.prune(
        run.path, checkpoint_files.list_steps(run.path)[:1]
    )  # as if it had been killed before the later ones
    assert checkpoint_files.list_steps(run.path)[-1] < recorded
    inbox.drop(run.path, {"optim.lr": 0.02}, "test")
    resume(run, World(), Show())
    (edit,) = run.journal().interventions
    assert edit.step == recorded
    same = [a == b for a, b in zip(fingerprints(run), fingerprints(whole), strict=True)]
    assert same == [True] * recorded + [False] * (30 - recorded)


def test_a_journal_that_lost_an_intervention_is_noticed(stopped):
    run = stopped
    before = run.journal_path.read_bytes()
    inbox.drop(run.path, {"optim.lr": 0.02}, "test")
    resume(run, World(), Show())
    run.journal_path.write_bytes(before)
    with pytest.raises(UserError, match="has lost interventions"):
        resume(run, World(), Show())


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"train.batch_size": 4}, "cannot be edited"), ({"optim.lrr": 1.0}, "did you mean 'optim.lr'")],
)
def test_an_edit_that_cannot_be_is_refused_and_named(stopped, changes, message):
    run = stopped
    inbox.drop(run.path, changes, "test")
    resume(run, World(), Show())
    assert run.journal().interventions == []
    assert message in run.journal().of_kind("note")[-1].fields["text"]


def test_changed_data_is_refused(stopped):
    run = stopped
    text = (run.path / "run.json").read_text()
    from safelight.store import sealed

    fields = sealed.unseal(text)
    assert fields is not None
    fields["facts"]["data"]["fingerprint"] = "other"
    (run.path / "run.json").write_bytes(sealed.pretty(fields))
    with pytest.raises(UserError, match="the data has changed"):
        resume(run, World(), Show())


def test_accumulation_sees_the_same_batches_and_noise(tiny, tmp_path):
    """Without batch norm in the way, parts change only the order of a sum."""
    settings = {"network": {"name": "unet", "width": 8, "multipliers": [1, 1]}, "train.steps": 6}
    small = {name: value for name, value in tiny.items() if name != "network.width"} | settings
    losses = []
    for parts in (1, 3):
        run = trained(small, tmp_path, f"p{parts}", **{"train.accumulate": parts})
        losses.append(metrics.read(run.path)["raw/mse"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_run_opened_for_reading_samples_the_same_images(whole):
    run = Run(whole)
    samples = run.sample(6, label=3, seed=5)
    assert samples.images.shape == (6, 28, 28, 1)
    assert samples.given["label"].tolist() == [3] * 6
    again = Run(whole, step=30).sample(6, label="3", seed=5)
    assert (again.images == samples.images).all()
    other = run.sample(6, label=3, seed=6)
    assert (other.images != samples.images).any()
    guided = run.sample(6, label=3, seed=5, how={"sample.guidance": 1.0})
    assert guided.how["guidance"] == 1.0
    assert (guided.images != samples.images).any()
    assert list(run.metrics("loss")) == ["step", "raw/mse"]
    with pytest.raises(UserError, match="no checkpoint of step 5"):
        Run(whole, step=5)


def test_the_report_tells_what_any_step_takes(whole):
    text = (whole.path / "report.md").read_text(encoding="utf-8")
    assert "any step by recomputing at most 9 (" in text


def test_the_report_tells_the_run(whole):
    html = (whole.path / "report.html").read_text(encoding="utf-8")
    assert digest(whole) in html
    assert whole.info().facts.data["fingerprint"] in html
    assert not re.search(
        r"(?:src|href|action)=['\"]?https?:|url\(['\"]?https?:|@import", html
    )  # and see its CSP
    assert "default-src &#39;none&#39;" in html
    words = (whole.path / "report.md").read_text(encoding="utf-8")
    assert words.startswith("# whole")
    assert "The fixed samples after step 30 (0.2 epochs)." in words


def test_a_figure_that_training_does_not_change_is_shown_once(whole, tmp_path):
    run = RunDirectory(Path(shutil.copytree(whole.path, tmp_path / "copy")))
    first, last = sorted(run.panels.glob("*one-step.png"))
    before, after = [drawing.caption for drawing in panels_blocks(gather(run))]
    assert (before[-27:], after[-27:]) == ("After step 20 (0.1 epochs).", "After step 30 (0.2 epochs).")
    shutil.copy(first, last)
    assert [drawing.caption for drawing in panels_blocks(gather(run))] == [after]


def test_an_average_of_another_length_is_made_from_the_kept_tracks(whole):
    """Of the kept length it is the track itself, bit for bit or nearly; without it, the recipe's average."""
    from safelight.engine.ema import tracks_of
    from safelight.store import checkpoint

    averages = checkpoint.load(checkpoint_files.directory(whole.path, 30))["averages"]
    (track,) = tracks_of(averages).values()
    run = Run(whole, ema_length=0.1)
    for name, parameter in run.model.nets["denoiser"].named_parameters():
        torch.testing.assert_close(parameter, track[f"denoiser.{name}"], rtol=1e-4, atol=1e-5)
    usual = dict(Run(whole).model.nets["denoiser"].named_parameters())
    assert torch.equal(usual["out.weight"], averages["ema.denoiser.out.weight"])
    assert not torch.equal(usual["out.weight"], track["denoiser.out.weight"])
    with pytest.raises(UserError, match="must lie between"):
        Run(whole, ema_length=0.5)


def test_a_device_that_goes_on_meanwhile_has_the_same_run(monkeypatch, tiny, tmp_path, whole):
    """Batches made ahead, records and signals that come later: as on CUDA, here on the CPU."""
    for module in ("training.session", "engine.loop", "engine.ledger"):
        monkeypatch.setattr(f"safelight.{module}.ASYNCHRONOUS", {"cpu"})
    run = trained(tiny, tmp_path, "later")
    assert fingerprints(run) == fingerprints(whole)
    assert digest(run) == digest(whole)
