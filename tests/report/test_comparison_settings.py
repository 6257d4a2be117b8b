"""What differs between runs, and which runs differ by chance alone."""

from __future__ import annotations

from dataclasses import replace

from safelight.report.basis import worded
from safelight.report.facts import gather
from safelight.report.settings import ABSENT, SettingEdit, differences, edits, replicas, role_of, surroundings
from safelight.store.info import Parent


def test_differences_are_all_keys_that_differ_and_no_others(made):
    a = made.read("a")
    b = made.read("b", {"optim.lr": 0.01, "watch.every": 7, "sample.steps": 9, "network.depth": 3})
    differing = {difference.key: (difference.role, difference.values) for difference in differences([a, b])}
    assert differing == {
        "network.depth": ("training", {"a": ABSENT, "b": "3"}),
        "optim.lr": ("training", {"a": "0.001", "b": "0.01"}),
        "watch.every": ("watching", {"a": "50", "b": "7"}),
        "sample.steps": ("sampling", {"a": "5", "b": "9"}),
    }
    assert differences([a, made.read("c", {"about.title": "other words"})]) == ()


def test_every_section_has_a_role():
    assert role_of("train.steps") == role_of("loss.weights.mse") == role_of("data.flip") == "training"
    watching = ("evaluate.every", "checkpoint.keep", "watch.seed", "tape.every")
    assert {role_of(key) for key in watching} == {"watching"}
    assert role_of("sample.guidance") == "sampling"


def test_data_code_and_machine_are_told_too(made):
    a = made.read("a")
    b = made.read("b", data={**a.data, "fingerprint": "d2"}, machine={"device": "cuda", "threads": 1})
    differing = {difference.key: difference.values for difference in surroundings([a, b])}
    assert differing == {
        "data.fingerprint": {"a": "d1", "b": "d2"},
        "environment.device": {"a": "cpu", "b": "cuda"},
        "environment.torch": {"a": "2", "b": ABSENT},
    }


def test_a_fork_that_has_not_trained_differs_in_no_environment(made):
    a = made("a")
    recorded = gather(a)
    fork = replace(recorded, name="fork", sessions=())
    assert surroundings([recorded, fork]) == ()


def test_interventions_say_what_was_there_before(made):
    run = made.read("a", edits=[(30, {"optim.lr": 0.01}), (60, {"optim.lr": 0.1, "loss.weights.mse": 2.0})])
    assert edits([run]) == (
        SettingEdit("a", 30, 300, "optim.lr", "0.001", "0.01"),
        SettingEdit("a", 60, 600, "optim.lr", "0.01", "0.1"),
        SettingEdit("a", 60, 600, "loss.weights.mse", "1", "2"),
    )
    assert [run.settings_at(step)["optim.lr"] for step in (0, 29, 30, 59, 60)] == [
        0.001,
        0.001,
        0.01,
        0.01,
        0.1,
    ]
    assert run.settings["optim.lr"] == 0.001


def test_an_edit_before_another_of_the_same_step_is_what_that_one_replaced(made):
    run = made.read("a", edits=[(30, {"optim.lr": 0.01}), (30, {"optim.lr": 0.1})])
    assert [(edit.before, edit.after) for edit in edits([run])] == [("0.001", "0.01"), ("0.01", "0.1")]


def test_a_ramp_in_place_of_a_number_is_one_value(made):
    ramp = {"begin": 0.0, "end": 1.0, "after": 0, "over": 50}
    written = "{begin = 0, end = 1, after = 0, over = 50}"
    runs = [made.read("a"), made.read("b", {"loss.weights.mse": ramp})]
    assert {difference.key: difference.values for difference in differences(runs)} == {
        "loss.weights.mse": {"a": "1", "b": written}
    }
    edited = made.read("c", {"loss.weights.mse": ramp}, edits=[(10, {"loss.weights.mse": 0.5})])
    assert [(difference.before, difference.after) for difference in edits([edited])] == [(written, "0.5")]
    assert worded({}) == "none"


def grouped(*runs) -> list[tuple[str, ...]]:
    return [group.runs for group in replicas(runs)]


def test_runs_that_differ_in_seed_and_watching_are_replicas(made):
    a = made.read("a")
    b = made.read("b", {"train.seed": 1, "watch.every": 5, "checkpoint.every": 10, "about.title": "b"})
    c = made.read("c", {"train.seed": 1, "optim.lr": 0.01})
    assert grouped(a, b, c) == [("a", "b"), ("c",)]
    assert [group.label for group in replicas([a, b, c])] == ["lr = 0.001", "lr = 0.01"]


def test_runs_that_something_else_was_done_to_are_not(made):
    plain = made.read("plain")
    others = [
        made.read("edited", edits=[(50, {"optim.lr": 0.01})]),
        made.read("later", edits=[(60, {"optim.lr": 0.01})]),
        made.read("other-data", data={**plain.data, "fingerprint": "d2"}),
        made.read("forked", parent=Parent("0" * 32, 50, "")),
    ]
    assert grouped(plain, *others) == [(run.name,) for run in (plain, *others)]
    watched = made.read("watched", {"train.seed": 2}, edits=[(50, {"watch.every": 5})])
    assert grouped(plain, watched) == [("plain", "watched")]
    labels = [group.label for group in replicas([plain, *others])]
    assert len(set(labels)) == len(labels)  # though no setting differs


def test_labels_say_few_keys_and_name_a_run_otherwise(made):
    few = {"optim.lr": 0.01, "network.width": 16}
    a, b = made.read("a"), made.read("b", few)
    assert [group.label for group in replicas([a, b])] == ["width = 8 · lr = 0.001", "width = 16 · lr = 0.01"]
    c = made.read("c", {**few, "train.steps": 50, "data.flip": True})
    assert [group.label for group in replicas([a, c])] == ["a", "c"]
    same_last = {"network.steps": 1, "train.steps": 50}
    labels = [
        group.label for group in replicas([made.read("d", same_last), made.read("e", {"network.steps": 2})])
    ]
    assert labels[0] == "network.steps = 1 · train.steps = 50"
