"""Numbers at an equal budget: closed forms of what is averaged, counted and measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from safelight.report.basis import MEAN, MEDIAN, NumberTable, cost, median_part
from safelight.report.budgets import Budget
from safelight.report.numbers import (
    BLOCKS,
    components,
    held_out,
    loss_basis,
    measured_while_training,
    metrics,
    standard_error,
    total,
    weights_at,
)
from safelight.store.info import Parent

ALL = Budget("images", 1000, ("a",))


def test_a_component_is_the_mean_over_the_last_tenth_of_the_budget(made):
    run = made.read("a", losses=float)  # the loss of a step is its number
    assert components(run, ALL).numbers["mse"].value == pytest.approx(np.mean(range(90, 100)))
    half = components(run, Budget("images", 500, ("a",)))
    assert half.numbers["mse"].value == pytest.approx(np.mean(range(45, 50)))
    assert (half.images, half.run) == (500, "a")


def test_windows_are_as_long_in_images_whatever_the_batch_size(made):
    """The loss as a function of images seen has the same mean for batches of 10 and of 25."""
    small = made.read("small", losses=lambda step: 10.0 * (step + 1))
    large = made.read("large", {"train.batch_size": 25}, losses=lambda step: 25.0 * (step + 1))
    given = Budget("images", 1000, ())
    assert components(small, given).numbers["mse"].value == pytest.approx(np.mean(range(910, 1001, 10)))
    assert components(large, given).numbers["mse"].value == pytest.approx(np.mean(range(925, 1001, 25)))


def test_values_that_are_not_finite_are_left_out_and_counted(made):
    run = made.read("a", losses=lambda step: math.inf if step in (92, 95) else 2.0)
    number = components(run, ALL).numbers["mse"]
    assert (number.value, number.note) == (2.0, "2 of 10 values not finite")


def test_a_lazy_component_is_its_last_value_where_the_window_has_none(made):
    run = made.read("a", more=lambda step: {"r1": float(step)} if step % 16 == 0 else {})
    assert components(run, ALL).numbers["r1"].value == 96
    assert components(run, Budget("images", 940, ("a",))).numbers["r1"].value == 80


def test_a_run_without_a_value_there_says_so(made):
    run = made.read("a", parent=Parent("0" * 32, 50, ""))  # its own rows begin with step 50
    early = components(run, Budget("images", 300, ("a",))).numbers["mse"]
    assert math.isnan(early.value)
    assert early.note == "not recorded there: it was forked later"


def test_standard_error_by_batch_means():
    rng = np.random.default_rng(0)
    independent = [standard_error(rng.normal(0, 3, 400)) for _ in range(300)]
    assert np.mean(independent) == pytest.approx(3 / math.sqrt(400), rel=0.06)
    # Blocks of 50 equal values: the means are the 8 values themselves.
    values = rng.normal(0, 1, BLOCKS)
    assert standard_error(np.repeat(values, 50)) == pytest.approx(np.std(values, ddof=1) / math.sqrt(BLOCKS))
    assert math.isnan(standard_error(np.ones(BLOCKS - 1)))


def test_components_are_apart_when_data_or_the_method_differ(made):
    runs = [
        made.read("a"),
        made.read("weighted", {"loss.weights.mse": 3.0}),
        made.read("epsilon", {"method.prediction": "epsilon"}),
        made.read("flipped", {"data.flip": True}),
        made.read("edited", edits=[(10, {"optim.lr": 1.0})]),
    ]
    table = NumberTable.of(components(run, ALL) for run in runs)
    assert [column.runs for column in table.columns] == [
        ("a", "weighted", "edited"),
        ("epsilon",),
        ("flipped",),
    ]
    assert table.apart[0].facts == (("method.prediction", "epsilon", "v"),)
    assert table.apart[1].facts == (("data.flip", "true", "false"),)


def test_totals_are_apart_when_weights_differ_at_that_moment(made):
    ramp = {"begin": 0.0, "end": 2.0, "after": 0, "over": 100}
    runs = [
        made.read("a"),
        made.read("ramped", {"loss.weights.mse": ramp}),
        made.read("edited", edits=[(60, {"loss.weights.mse": 5.0})]),
    ]
    at_the_end = NumberTable.of(total(run, ALL) for run in runs)
    assert [column.runs for column in at_the_end.columns] == [("a",), ("ramped",), ("edited",)]
    assert at_the_end.apart[1].facts == (("loss.weights.mse", "5", "1"),)
    before = NumberTable.of(total(run, Budget("images", 500, ())) for run in runs)
    assert before.columns[0].runs == ("a", "edited")


def test_weights_in_force_follow_ramps_and_interventions(made):
    ramp = {"begin": 0.0, "end": 2.0, "after": 10, "over": 40}
    run = made.read(
        "a", {"loss.weights.mse": ramp, "loss.weights.r1": 0.5}, edits=[(60, {"loss.weights.r1": 3})]
    )
    assert weights_at(run, 10) == {"mse": 0.0, "r1": 0.5}
    assert weights_at(run, 30) == {"mse": 1.0, "r1": 0.5}
    assert weights_at(run, 99) == {"mse": 2.0, "r1": 3.0}


def test_held_out_values_are_the_last_ones_measured_within_the_budget(made):
    run = made.read("a", extra=lambda step: {"held_out/t": float(step)} if step in (49, 99) else {})
    row = held_out(run, ALL)
    assert (row.numbers["t"].value, row.images) == (99.0, 1000)
    row = held_out(run, Budget("images", 990, ()))
    assert (row.numbers["t"].value, row.images, row.hours) == (49.0, 500, pytest.approx(25 / 3600))
    assert held_out(run, Budget("images", 400, ())).numbers == {}


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"watch.seed": 5}, "watch.seed"),
        ({"watch.held_out": 8}, "watch.held_out"),
        ({"data.held_out": 0.5}, "data.held_out"),
        ({"method.prediction": "x0"}, "method.prediction"),
    ],
)
def test_held_out_values_of_other_images_or_noises_are_apart(made, changes, fact):
    runs = [
        made.read(name, settings, extra=lambda step: {"held_out/t": 1.0})
        for name, settings in (("a", {}), ("b", changes))
    ]
    table = NumberTable.of(held_out(run, ALL) for run in runs)
    assert [row[0] for row in table.apart[0].facts] == [fact]


def test_metrics_while_training_rest_on_their_section_and_the_sampler(made):
    def measured(name, changes):
        changes = {"evaluate.every": 50, "evaluate.n": 500, **changes}
        columns = {"evaluate/FD-classifier": 3.0, "floor/FD-classifier": 0.5}
        run = made.read(name, changes, extra=lambda step: columns if step == 49 else {})
        return measured_while_training(run, ALL)

    rows = [
        measured("a", {}),
        measured("oftener", {"evaluate.every": 25, "optim.lr": 1.0}),
        measured("fewer", {"evaluate.n": 100}),
        measured("sampled", {"sample.steps": 50}),
        measured("averaged", {"train.ema": 0.9}),
        measured("averaged-longer", {"train.ema": 0.99}),
    ]
    table = NumberTable.of(rows)
    assert [column.runs for column in table.columns] == [
        ("a", "oftener"),
        ("fewer",),
        ("sampled",),
        ("averaged", "averaged-longer"),
    ]
    number = rows[0].numbers["FD-classifier"]
    assert (number.value, number.floor) == (3.0, 0.5)
    quick = {"evaluate.steps": 3}
    pair = [measured("quick", quick), measured("quick-sampled", {**quick, "sample.steps": 50})]
    assert len(NumberTable.of(pair).columns) == 1  # sample.steps was not used


@pytest.mark.parametrize("fact", ["extractor", "n", "reference", "sampling"])
def test_stored_metrics_of_another_basis_are_apart(made, fact):
    from compare_runs import BASIS

    a = made.read("a", evaluated={"FD": 4.0, "coverage": 0.5})
    b = made.read("b", evaluated={"FD": 2.0}, basis={**BASIS, fact: "other"})
    table = NumberTable.of([*metrics(a), *metrics(b)])
    assert [column.runs for column in table.columns] == [("a",), ("b",)]
    assert table.apart[0].facts == ((fact, "other", BASIS[fact]),)


def test_stored_metrics_of_equal_basis_share_a_column_with_their_floor(made):
    a, b = made.read("a", evaluated={"FD": 4.0}), made.read("b", evaluated={"FD": 2.0})
    (column,) = NumberTable.of([*metrics(a), *metrics(b)]).columns
    assert {row.run: row.numbers["FD"].value for row in column.rows} == {"a": 4.0, "b": 2.0}
    assert column.rows[0].numbers["FD"].floor == 0.5
    # The evaluation knows its reference: the same images with and without classes are two packs of data.
    other = made.read("c", evaluated={"FD": 2.0}, data={**a.data, "fingerprint": "d2"})
    assert len(NumberTable.of([*metrics(a), *metrics(other)]).columns) == 1


def test_a_later_evaluation_takes_the_place_of_an_earlier_one(made):
    directory = made("a", evaluated={"FD": 4.0}, done=50)
    from compare_runs import BASIS
    from safelight.evaluate.evaluation import Evaluation, Result
    from safelight.report.facts import gather
    from safelight.store import results

    later = Evaluation(100, "w", "classifier", {"FD": Result(3.0)}, BASIS, "")
    results.store(directory.path, later.name, later.to_dict())
    (row,) = metrics(gather(directory))
    assert (row.numbers["FD"].value, row.images) == (3.0, 1000)
    assert math.isnan(row.numbers["FD"].floor)


def test_cost_is_seconds_over_thousand_images(made):
    run = made.read("a", seconds=lambda step: 0.25)
    assert cost(run).numbers[MEAN].value == pytest.approx(25.0)
    assert cost(run).numbers[MEDIAN].value == pytest.approx(25.0)
    forked = made.read("forked", seconds=lambda step: 0.25, parent=Parent("0" * 32, 60, ""))
    assert cost(forked).numbers[MEAN].value == pytest.approx(25.0)  # not paid for by the parent's images
    assert cost(forked).images == 400


def test_the_median_part_knows_lazy_phases_and_forgives_a_busy_hour():
    lazy = np.where(np.arange(1600) % 16 == 0, 1.6, 0.1)  # every 16th step is dear
    images = np.arange(1, 1601) * 0.01
    mean = lazy.sum() / images[-1]
    assert np.median(lazy) / 0.01 == pytest.approx(10.0)  # a median over steps would miss them
    assert median_part(np.cumsum(lazy), images) == pytest.approx(mean)
    busy = np.where(np.arange(1600) < 700, 10 * lazy, lazy)
    assert busy.sum() / images[-1] > 4 * mean
    assert median_part(np.cumsum(busy), images) == pytest.approx(mean)


def test_costs_of_different_machines_are_apart_and_precision_is_not_a_machine(made):
    from compare_runs import MACHINE

    a = made.read("a")
    b = made.read("b", machine={**MACHINE, "threads": 8})
    c = made.read("c", machine={**MACHINE, "precision": "bf16"})
    table = NumberTable.of(map(cost, (a, b, c)))
    assert [column.runs for column in table.columns] == [("a", "c"), ("b",)]
    assert table.apart[0].facts == (("threads", "8", "1"),)


def test_the_basis_of_a_loss_is_what_is_in_force_at_the_time(made):
    run = made.read("a", {"method.x": 1}, edits=[(50, {"method.x": 2})])
    assert loss_basis(run, Budget("images", 500, ()))["method.x"] == "1"
    assert loss_basis(run, ALL)["method.x"] == "2"
