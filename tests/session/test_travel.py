"""Any step of a run can be reached again, and a new run can start from it."""

from __future__ import annotations

import pytest
import torch

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.recipes.recipe import load
from safelight.session.fork import fork
from safelight.session.replay import replay
from safelight.session.train import Show, begin, resume
from safelight.store import checkpoint, inbox, journal, keep, manifest, metrics
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
    assert (verdict.verdict, verdict.start, verdict.checked) == ("exact", 30, 0)
    for step in keep.list_steps(run.path)[1:]:
        keep.set_aside(keep.directory(run.path, step))
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
    own = dict(zip(*(metrics.read(same.path)[name] for name in ("step", "fingerprint")), strict=True))
    (edit,) = run.journal().interventions
    before = [step for step in own if step < edit.step or edit.step <= 14]
    assert before
    assert all(own[step] == parent[step] for step in before)
    assert min(own) == 14
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
    assert manifest.digest_of(keep.directory(made.path, 10)) == manifest.digest_of(
        keep.directory(run.path, 10)
    )
    assert checkpoint.load(keep.directory(made.path, 10)).keys() == {
        "networks",
        "averages",
        "optimisers",
        "memory",
    }
    assert journal.read(made.journal_path).entries == []


def test_what_cannot_be_edited_cannot_be_forked_into(run, runs):
    with pytest.raises(UserError, match="cannot be edited"):
        fork(run, 10, {"train.batch_size": 24}, runs, "other")
