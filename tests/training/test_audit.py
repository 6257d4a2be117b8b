"""Fault 3: after a resume all that trains is what checkpoint and journal say, or nothing is trained."""

from __future__ import annotations

import re

import pytest
import torch

from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.optim import NetworkOptimiser
from safelight.engine.state import State
from safelight.recipe import load
from safelight.store import inbox
from safelight.store.directory import RunDirectory
from safelight.training import audit
from safelight.training.progress import Show
from safelight.training.session import Session
from safelight.training.start import begin, resume


@pytest.fixture
def stopped(tmp_path, tiny, monkeypatch) -> RunDirectory:
    """A run that was stopped after 10 of 30 steps."""
    boundary = Session._boundary

    def stop(session, agreed) -> None:
        agreed.stop = agreed.stop or session.state.step == 10
        boundary(session, agreed)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "_boundary", stop)
        return begin(load("digits-class", tiny), tmp_path, "run", World(), Show())


def go_on(directory: RunDirectory) -> RunDirectory:
    return resume(directory, World(), Show())


def test_a_sound_resume_is_journalled_with_what_is_in_force(stopped):
    inbox.drop(stopped.path, {"optim.lr": 5e-4}, "cli")
    go_on(stopped)
    (entry,) = stopped.journal().of_kind("audit")
    assert entry.fields["step"] == 10
    assert entry.fields["differences"] == []
    assert entry.fields["trainable"]["denoiser"] > 1000
    assert entry.fields["lr"]["denoiser"] == pytest.approx(5e-4)  # still in the first epoch


def test_an_edited_learning_rate_that_never_arrives_ends_the_run(stopped, monkeypatch):
    """As when `load_state_dict` brings back the old group: here the settings of every step are ignored."""
    inbox.drop(stopped.path, {"optim.lr": 5e-4}, "cli")
    step = NetworkOptimiser.step
    monkeypatch.setattr(
        NetworkOptimiser, "step", lambda self, settings, rate: step(self, settings, rate._replace(lr=1e-3))
    )
    with pytest.raises(UserError, match=r"resume-settings: denoiser, group 0: lr is 0\.001, in force is"):
        go_on(stopped)
    (entry,) = stopped.journal().of_kind("audit")
    assert {difference["code"] for difference in entry.fields["differences"]} == {"resume-settings"}
    assert stopped.journal().of_kind("end")[-1].fields["status"] == "failed"


def test_a_network_that_is_frozen_after_the_resume_ends_the_run(stopped, monkeypatch):
    init = State.__init__

    def frozen(self, *arguments) -> None:
        init(self, *arguments)
        self.nets["denoiser"].requires_grad_(False)

    monkeypatch.setattr(State, "__init__", frozen)
    with pytest.raises(UserError, match="resume-frozen: denoiser: 0 of its parameters can be trained"):
        go_on(stopped)


@pytest.mark.parametrize(
    ("group", "code"), [("optimisers", "resume-optimiser"), ("networks", "resume-weights")]
)
def test_a_reset_optimiser_or_network_ends_the_run(stopped, monkeypatch, group, code):
    loading = State.load

    def forgets(self, groups, step) -> None:
        kept = {name: value.clone() for name, value in self.groups()[group].items()}
        loading(self, {**groups, group: kept}, step)

    monkeypatch.setattr(State, "load", forgets)
    with pytest.raises(UserError, match=rf"{code}: {group}: .*are not the checkpoint's"):
        go_on(stopped)


def test_an_optimiser_that_holds_other_tensors_is_found(stopped, tiny):
    recipe = load("digits-class", tiny)
    from safelight.loading.prepare import prepare

    ready = prepare(recipe, World())
    state = ready.state("contiguous")
    assert audit.loaded(state, state.groups(), audit.trainable(state.nets)) == []
    state.nets["denoiser"].out.bias = torch.nn.Parameter(torch.zeros(1))
    (difference,) = audit.loaded(state, state.groups(), {})
    assert difference.code == "resume-optimiser"
    assert re.search("other tensors", difference.text)


def test_not_a_number_is_itself():
    class Stub:
        def groups(self):
            return {"memory": {"p": torch.tensor([float("nan"), 1.0])}}

    stub = Stub()
    assert list(audit._tensors(stub, {"memory": {"p": torch.tensor([float("nan"), 1.0])}})) == []
    assert [
        finding.code for finding in audit._tensors(stub, {"memory": {"p": torch.tensor([0.0, 1.0])}})
    ] == ["resume-weights"]
