"""Any step of a run can be reached again, and a new run can start from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.precision import Execution
from safelight.loading.model import MATCHES
from safelight.loading.replay import Replay, replay
from safelight.recipe import load
from safelight.store import checkpoint, checkpoint_files, inbox, journal, metrics
from safelight.store.directory import RunDirectory, names
from safelight.store.info import Parent
from safelight.store.tape import TapeReader
from safelight.training.fork import fork, rollback
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(runs):
    """30 steps, checkpoints at 10, 20, 30, and an edit at 15 on the way."""
    path = runs / "city"

    def rows(seen) -> None:
        if seen[-1].step >= 9 and not sent:
            sent.append(inbox.drop(path, {"optim.lr": 0.004}, "test"))

    sent: list = []
    return begin(load("digits-class", TINY), runs, "city", World(), Show(rows=rows))


def test_replay_reaches_any_step_exactly(run):
    state, verdict = replay(run, 30)
    assert (verdict.verdict, verdict.start, verdict.checked) == (MATCHES, 30, 0)
    for step in checkpoint_files.list_steps(run.path)[1:]:
        checkpoint_files.set_aside(checkpoint_files.directory(run.path, step))
    again, verdict = replay(run, 30)
    assert (verdict.verdict, verdict.start, verdict.checked) == ("exact", 10, 20)
    assert state.groups().keys() == again.groups().keys()
    for group, tensors in state.groups().items():
        assert [name for name in tensors if not torch.equal(tensors[name], again.groups()[group][name])] == []
    middle, verdict = replay(run, 17)
    assert (verdict.verdict, middle.step) == ("exact", 17)
    with pytest.raises(UserError, match="step 31: city has recorded the steps 0 to 30"):
        replay(run, 31)


def test_replay_names_the_first_step_that_differs(run, monkeypatch):
    lines = metrics.merged(run.path)
    lines[13]["fingerprint"] = "0" * 16
    monkeypatch.setattr(metrics, "merged", lambda path: lines)
    _, verdict = replay(run, 17)
    assert (verdict.verdict, verdict.step, verdict.checked) == ("diverged", 13, 3)


def test_another_environment_is_never_called_exact(run):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        _, verdict = replay(run, 12)
    finally:
        torch.set_num_threads(threads)
    assert verdict.verdict == "environment differs"
    assert verdict.why == (f"threads: {threads}, now {threads + 1}",)


def test_a_fork_without_changes_equals_its_parent(run, runs):
    same = resume(fork(run, 14, {}, runs, "same"), World(), Show())
    parent = dict(zip(*(metrics.read(run.path)[name] for name in ("step", "fingerprint")), strict=True))
    fingerprints = dict(
        zip(*(metrics.read(same.path)[name] for name in ("step", "fingerprint")), strict=True)
    )
    (edit,) = run.journal().interventions
    before = [step for step in fingerprints if step < edit.step or edit.step <= 14]
    assert before
    assert all(fingerprints[step] == parent[step] for step in before)
    assert min(fingerprints) == 14
    origin = same.info().parent
    assert origin is not None
    assert (origin.run, origin.step) == (run.info().id, 14)


def test_a_fork_with_another_learning_rate_differs_from_its_first_step(run, runs):
    calmer = resume(fork(run, 10, {"optim.lr": 1e-5}, runs, "calmer"), World(), Show())
    columns, parent = metrics.read(calmer.path), metrics.read(run.path)
    assert columns["step"][0] == 10
    assert (columns["fingerprint"] != parent["fingerprint"][10:]).all()
    assert (columns["lr/denoiser"] <= 1e-5).all()
    assert columns["raw/mse"][0] == parent["raw/mse"][10]  # the same state, batch and noise


def test_the_fork_holds_the_state_it_started_from(run, runs):
    made = fork(run, 10, {}, runs, "held")
    assert checkpoint_files.digest_of(
        checkpoint_files.directory(made.path, 10)
    ) == checkpoint_files.digest_of(checkpoint_files.directory(run.path, 10))
    assert checkpoint.load(checkpoint_files.directory(made.path, 10)).keys() == {
        "networks",
        "averages",
        "optimisers",
        "memory",
    }
    assert journal.read(made.journal_path).entries == []


def test_what_cannot_be_edited_cannot_be_forked_into(run, runs):
    with pytest.raises(UserError, match="cannot be edited"):
        fork(run, 10, {"train.batch_size": 24}, runs, "other")


def test_a_fork_is_asked_for_the_steps_of_the_run_it_came_from(run, runs):
    child = resume(fork(run, 14, {}, runs, "grandparent"), World(), Show())
    state, verdict = replay(child, 12)
    assert (state.step, verdict.verdict, verdict.start) == (12, "exact", 10)
    state, verdict = replay(child, 30)
    assert (state.step, verdict.verdict, verdict.start) == (30, MATCHES, 30)
    grandchild = fork(child, 12, {}, runs, "sibling")
    assert grandchild.info().parent == Parent(run.info().id, 12, checkpoint_files.digest_of(
        checkpoint_files.directory(grandchild.path, 12)))  # fmt: skip


def test_steps_that_agree_elsewhere_are_good_enough_to_fork_at(run, runs, monkeypatch):
    """What was computed elsewhere but has every recorded fingerprint is the same state, if not 'exact'."""
    monkeypatch.setattr("safelight.loading.replay.code_facts", lambda recipe: {"source": "another"})
    _, verdict = replay(run, 12)
    assert (verdict.verdict, verdict.agreed) == ("environment differs", True)
    made = fork(run, 12, {}, runs, "elsewhere")
    monkeypatch.undo()
    digest = checkpoint_files.digest_of(checkpoint_files.directory(made.path, 12))
    assert digest == checkpoint.digest(replay(run, 12)[0].groups())
    lines = metrics.merged(run.path)
    lines[11]["fingerprint"] = "0" * 16
    monkeypatch.setattr(metrics, "merged", lambda path: lines)
    with pytest.raises(UserError, match=r"step 12 cannot be reached exactly \(diverged\)"):
        fork(run, 12, {}, runs, "diverged")


def test_a_fork_without_its_checkpoint_does_not_begin_at_nothing(run, runs):
    made = fork(run, 10, {}, runs, "empty")
    checkpoint_files.set_aside(checkpoint_files.directory(made.path, 10))
    with pytest.raises(UserError, match="fork it again"):
        resume(made, World(), Show())


def test_rolling_back_goes_on_under_the_name_and_deletes_nothing(run, runs):
    path = Path(shutil.copytree(run.path, runs / "back" / "city"))
    was = RunDirectory(path)
    identity, digests = (
        was.info().id,
        [entry.fields["digest"] for entry in was.journal().of_kind("checkpoint")],
    )
    now, before = rollback(was, 17, {"optim.lr": 1e-4})
    assert (now.name, before.name) == ("city", "city-before-17")
    assert before.info().id == identity
    assert [entry.fields["digest"] for entry in before.journal().of_kind("checkpoint")] == digests
    assert checkpoint_files.list_steps(before.path) == checkpoint_files.list_steps(run.path)
    origin = now.info().parent
    assert origin is not None
    assert (origin.run, origin.step) == (identity, 17)
    assert sorted(names(runs / "back")) == ["city", "city-before-17"]
    assert before.journal().entries[-1].fields["run"] == now.info().id
    resume(now, World(), Show())
    columns = metrics.read(now.path)
    assert columns["step"].tolist() == list(range(17, 30))
    assert (columns["lr/denoiser"] <= 1e-4).all()
    again, older = rollback(now, 12, {})  # a step of the run before: its fork, not this one's
    assert older.name == "city-before-12"
    assert again.info().parent is not None
    assert (again.info().parent.run, again.info().parent.step) == (identity, 12)


def test_a_run_that_is_trained_is_not_rolled_back(run, runs):
    with run.lock(), pytest.raises(UserError, match="is being written by process"):
        rollback(run, 10, {})
    assert not (runs / "city-from-10").exists()


def test_another_memory_format_is_never_called_exact(run):
    other = Replay(run)
    other.execution = Execution("fp32", "channels_last")
    verdict = other.go_to(12)
    assert verdict.verdict == "environment differs"
    assert verdict.why == ("memory_format: contiguous, now channels_last",)


def test_one_replay_goes_on_and_back(run):
    replayed = Replay(run)
    assert (replayed.go_to(12).start, replayed.go_to(14).checked) == (10, 4)
    assert replayed.go_to(14).checked == 4  # it is there
    onwards = replayed.state.groups()
    (back, to) = (replayed.go_to(3), replayed.state.step)
    assert (back.verdict, back.start, back.checked, to) == ("exact", 0, 3, 3)
    replayed.go_to(14)
    for group, tensors in replayed.state.groups().items():
        assert all(torch.equal(value, onwards[group][name]) for name, value in tensors.items())


def test_watching_and_retention_are_edited_while_it_trains(runs):
    path, sent = runs / "watched", []

    def rows(seen) -> None:
        if seen[-1].step >= 9 and not sent:
            sent.append(inbox.drop(path, {"watch.every": 2, "checkpoint.keep": 1, "checkpoint.budget": 0,
                                          "tape.every": 3, "optim.warmup": 40}, "test"))  # fmt: skip

    run = begin(load("digits-class", {**TINY, "train.steps": 60}), runs, "watched", World(), Show(rows=rows))
    (edit,) = run.journal().interventions
    sheets = [int(sheet.stem) for sheet in sorted(run.sheets.glob("*.png"))]
    assert sheets == [step for step in range(1, 61) if step % (20 if step <= edit.step else 2) == 0]
    assert checkpoint_files.list_steps(run.path) == [60]
    assert TapeReader(run.path).steps == [
        step for step in range(edit.step + 1, 61) if step % 3 == 0 or step == 60
    ]
    lr = metrics.read(run.path)["lr/denoiser"]
    assert lr[edit.step] < lr[edit.step - 1]
    assert (np.diff(lr[edit.step : 40]) > 0).all()
