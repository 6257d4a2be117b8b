"""Remedies applied: in forks, one at a time, judged, gone back from; decided once, whatever ends in between.

The runs are of tests/fixtures/ill: whether its discriminator wins is a function of weights and rates.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

import safelight.cli
from forks import serving
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.loading.recorded import recipe_of
from safelight.recipe import load
from safelight.store import checkpoint_files, metrics
from safelight.store.directory import RunDirectory, find
from safelight.store.listing import list_runs, summary, verdicts
from safelight.training import remedies as treatment
from safelight.training.fork import fork
from safelight.training.progress import Show
from safelight.training.stages import finish
from safelight.training.start import begin, resume

ILL = str(Path(__file__).parents[1] / "fixtures" / "ill" / "ill.toml")
FIRST = {"method.penalty": 0.5}  # the first remedy, a gradient penalty, cures it
SECOND = {"method.speed": 0.0006}  # the second one does: half of 1e-3 a step
NONE: dict[str, float] = {}


def trained(runs: Path, changes=NONE, show: Show | None = None) -> RunDirectory:
    return begin(load(ILL, changes), runs, "city", World(), show or Show())


def decided(run: RunDirectory) -> list[str]:
    return [entry.fields["event"] for entry in run.journal().of_kind("remedy")]


def ends(run: RunDirectory) -> list[str]:
    return [entry.fields["status"] for entry in run.journal().of_kind("end")]


def digest(run: RunDirectory) -> str:
    return checkpoint_files.read(
        checkpoint_files.directory(run.path, checkpoint_files.list_steps(run.path)[-1])
    ).digest


@pytest.fixture(scope="module")
def cured(tmp_path_factory) -> tuple[RunDirectory, list[str]]:
    """By the second remedy."""
    warned: list[str] = []
    return trained(tmp_path_factory.mktemp("cured"), SECOND, Show(warn=warned.append)), warned


@pytest.fixture(scope="module")
def incurable(tmp_path_factory) -> RunDirectory:
    return trained(tmp_path_factory.mktemp("incurable"))


def test_a_remedy_that_helps_is_kept_in_a_fork_under_the_runs_name(tmp_path):
    city = trained(tmp_path, FIRST)
    before = find("city-before-5", tmp_path)
    assert [run.name for run in list_runs(tmp_path)] == ["city", "city-before-5"]
    assert decided(city) == ["begun", "helped"]
    assert (ends(before), decided(before), ends(city)) == (["left"], ["tried"], ["finished"])
    assert city.info().parent.run == before.info().id
    assert (
        city.info().parent.step
        == checkpoint_files.read_pins(before.path)["before-discriminator-wins"].step
        == 5
    )
    was, now = recipe_of(before), recipe_of(city)
    assert (was.weights["r1"], now.weights["r1"]) == (0.0, 0.5)
    assert now.optim == was.optim
    assert [row.step for row in metrics.rows(city.path)] == list(range(5, 60))
    assert not city.journal().of_kind("verdict")


def test_one_that_does_not_help_is_gone_back_from_and_the_next_is_tried(cured):
    city, _ = cured
    runs = city.path.parent
    before, first = find("city-before-5", runs), find("city-tried-1", runs)
    assert (decided(before), decided(first), decided(city)) == (
        ["tried"], ["begun", "failed"], ["begun", "helped"])  # fmt: skip
    assert first.info().parent == city.info().parent  # back to the same step of the same run
    was, tried, now = map(recipe_of, (before, first, city))
    assert (was.weights["r1"], tried.weights["r1"], now.weights["r1"]) == (0.0, 0.5, 0.0)  # one at a time
    assert (tried.optim["discriminator"].lr, now.optim["discriminator"].lr) == (1e-3, 5e-4)


def test_both_journals_say_what_why_and_from_which_step(cured):
    city, _ = cured
    before = find("city-before-5", city.path.parent)
    (left,) = [entry.fields for entry in before.journal().of_kind("remedy")]
    begun = city.journal().of_kind("remedy")[0].fields
    for fields in (left, begun):
        assert (fields["verdict"], fields["step"], fields["rescue"]) == ("discriminator wins", 13, 5)
        assert (fields["measured"], fields["expected"]) == (
            "discriminator accuracy 1.000, generator gradient 0", "accuracy at most 0.97")  # fmt: skip
    assert (left["number"], left["changes"]) == (1, {"loss.weights.r1": 0.5})
    assert (begun["number"], begun["changes"]) == (2, {"optim.discriminator.lr": 5e-4})
    (made,) = before.journal().of_kind("fork")
    assert made.fields["run"] == find("city-tried-1", city.path.parent).info().id


def test_it_is_told_on_the_way_and_listed_afterwards(cured, monkeypatch, capsys):
    city, warned = cured
    assert [line for line in warned if "tries" in line or "help" in line] == [
        "step 13: tries a stronger gradient penalty against discriminator wins, in a fork from step 5",
        "step 13: a stronger gradient penalty did not help: discriminator wins; goes back to step 5",
        "tries 1/2 of the discriminator's learning rate against discriminator wins, in a fork from step 5",
        "step 20: 1/2 of the discriminator's learning rate helped: no longer discriminator wins",
    ]
    tried = [row.step + 1 for row in metrics.rows(city.path)
             if "remedy/1/2 of the discriminator's learning rate" in row.extra]  # fmt: skip
    assert tried == list(range(6, 20))  # on the progress line until it is judged

    def tell(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["safelight", *words, "--runs", str(city.path.parent)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit):
            safelight.cli.main()
        return capsys.readouterr().out

    now = "1/2 of the discriminator's learning rate against discriminator wins"
    assert {listed["name"]: listed["remedy"] for listed in json.loads(tell("tree", "--json"))} == {
        "city-before-5": "",
        "city-tried-1": "a stronger gradient penalty against discriminator wins",
        "city": now,
    }
    assert f"city, from step 5 with {now}: finished" in tell("tree")
    assert "helped; no longer discriminator wins" in tell("show", "city")
    for name, words in (("city", f"to try {now}"), ("city-tried-1", "did not help (discriminator wins)"),
                        ("city-before-5", "ended; a fork from step 5 tries")):  # fmt: skip
        assert words in (city.path.parent / name / "report.md").read_text()


def test_when_nothing_is_left_the_run_goes_on_unaltered(incurable, tmp_path):
    runs = incurable.path.parent
    assert sorted(run.name for run in list_runs(runs)) == ["city", *(f"city-tried-{n}" for n in (1, 2, 3))]
    assert incurable.info().parent is None
    assert decided(incurable) == ["tried", "given up"]
    assert ends(incurable) == ["left", "finished"]
    alone = trained(tmp_path, {"monitor.act": False})
    assert digest(incurable) == digest(alone)
    assert [row.fingerprint for row in metrics.rows(incurable.path)] == [
        row.fingerprint for row in metrics.rows(alone.path)
    ]
    augmented = recipe_of(find("city-tried-3", runs))
    assert augmented.method_config.augment == "diffaugment"


class Killed(BaseException):
    """What a test does to a session at a moment."""


MOMENTS = {"remedy.fork", "remedy.made", "rename.note.write", "rename.aside", "rename.name",
           "remedy.given up"}  # fmt: skip


def test_killed_anywhere_between_the_steps_nothing_is_lost_or_tried_twice(incurable, monkeypatch, tmp_path):
    """At every moment of every change from one run to another, once."""
    real, killed = treatment.settle, set()

    def dies(directory, tell):
        def announce(moment: str) -> None:
            there = tuple(sorted(listed.name for listed in directory.path.parent.glob("city*")))
            at = (moment, there)
            if at not in killed:
                killed.add(at)
                raise Killed

        return real(directory, tell, announce)

    monkeypatch.setattr("safelight.training.start.settle", dies)
    run = None
    while run is None:
        try:
            if (tmp_path / "city").exists() or (tmp_path / ".renaming-city.json").exists():
                run = resume(find("city", tmp_path, write=True), World(), Show())
            else:
                run = trained(tmp_path)
        except Killed:
            continue
    assert {moment for moment, _ in killed} >= MOMENTS
    assert len(killed) > 20
    assert digest(run) == digest(incurable)
    assert decided(run) == ["tried", "given up"]
    there = sorted(listed.name for listed in list_runs(tmp_path))
    assert there == ["city", *(f"city-tried-{n}" for n in (1, 2, 3))]


def test_killed_in_the_middle_of_a_judgement_it_goes_on_with_it(cured, monkeypatch, tmp_path):
    from safelight.training.session import Session

    boundary = Session._boundary

    def dies(self, agreed):
        boundary(self, agreed)
        if self.state.step == 17 and self.directory.info().parent:
            raise Killed

    with monkeypatch.context() as context:
        context.setattr(Session, "_boundary", dies)
        with pytest.raises(Killed):
            trained(tmp_path, SECOND | {"method.penalty": 0.5})
    city = find("city", tmp_path)
    assert decided(city) == ["begun"]
    assert summary(city).status == "failed"
    resume(city, World(), Show())
    assert decided(city) == ["begun", "helped"]
    assert city.journal().of_kind("remedy")[-1].fields["at"] == 20


@pytest.mark.parametrize("changes", [FIRST, NONE])
def test_a_stage_that_was_treated_is_still_that_stage(changes, tmp_path):
    recipe = load(ILL, changes)
    assert finish(recipe, tmp_path, "city", World(), Show) == "trained"
    assert finish(recipe, tmp_path, "city", World(), Show) == "done before"


def test_without_an_early_checkpoint_it_begins_again(tmp_path):
    city = trained(tmp_path, FIRST | {"checkpoint.every": 50})
    assert city.info().parent.step == 0
    assert decided(city) == ["begun", "helped"]
    assert [row.step for row in metrics.rows(city.path)] == list(range(60))


def test_switched_on_while_a_verdict_holds_it_acts(tmp_path):
    from safelight.store import inbox

    run = trained(tmp_path, FIRST | {"monitor.act": False, "train.steps": 30})
    assert decided(run) == []
    assert len(list_runs(tmp_path)) == 1
    inbox.drop(run.path, {"monitor.act": True}, "cli")
    resume(run, World(), Show())
    assert decided(find("city", tmp_path)) == []  # there was no step left to leave it at


def test_a_verdict_that_a_fork_began_with_holds_there_until_it_ends(tmp_path):
    run = trained(tmp_path, FIRST | {"monitor.act": False, "train.steps": 30})
    assert verdicts(run) == ["discriminator wins"]
    ill = fork(run, 20, {"optim.discriminator.lr": 1e-4}, tmp_path, "ill")
    assert verdicts(resume(ill, World(), Show())) == ["discriminator wins"]
    well = fork(run, 20, {"loss.weights.r1": 0.5}, tmp_path, "well")
    assert verdicts(well) == ["discriminator wins"]
    assert verdicts(resume(well, World(), Show())) == []
    assert verdicts(well, 20) == ["discriminator wins"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_leave_at_the_same_step_and_join_the_fork(cured, tmp_path, tmp_path_factory):
    words = [f"{key}={value}" for key, value in SECOND.items()]
    with serving(tmp_path_factory.mktemp("forks")) as forks:
        launch = forks.run("forks:command", ["train", ILL, *words, "--name", "city", "--runs",
                                             str(tmp_path), "--no-check"], 2)  # fmt: skip
    assert "finished, step 60 of 60" in launch.out(0)
    runs = {listed.name: RunDirectory(listed.path) for listed in list_runs(tmp_path)}
    assert {name: decided(run) for name, run in runs.items()} == {
        "city-before-5": ["tried"],
        "city-tried-1": ["begun", "failed"],
        "city": ["begun", "helped"],
    }
    for run in runs.values():
        assert {entry.fields["environment"]["processes"] for entry in run.journal().of_kind("session")} == {2}
    alone = find("city", cured[0].path.parent)
    ours = metrics.rows(runs["city"].path)
    assert [row.step for row in ours] == [row.step for row in metrics.rows(alone.path)]
    assert [row.components["d"] for row in ours] == pytest.approx(
        [row.components["d"] for row in metrics.rows(alone.path)], abs=1e-6
    )


def test_a_fork_cannot_change_what_the_state_does_not_fit(incurable):
    runs = incurable.path.parent
    with pytest.raises(UserError, match=r"method\.name: cannot be edited"):
        fork(incurable, 5, {"method.name": "gan"}, runs, "other")
