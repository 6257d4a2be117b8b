"""The verdicts, on series whose story is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from safelight.monitor.config import Monitor
from safelight.monitor.judge import Change, HealthMonitor
from safelight.monitor.vitals import Average, Typical, Vitals
from safelight.store.metrics import MetricsRow

STEPS = 400


def row(step: int, components: dict[str, float], **extra: float) -> MetricsRow:
    named = {name.replace("__", "/"): value for name, value in extra.items()}
    return MetricsRow(step, components, sum(components.values()), {}, step + 1, 0.0, "", named)


def story(rows, steps: int = STEPS, opposed: bool = False, settings: Monitor | None = None) -> list[Change]:
    """What changes while these rows pass by."""
    judge = HealthMonitor(Vitals(steps, opposed), lambda step: settings or Monitor())
    return [change for row in rows for change in judge.add(row)]


def names_of(changes: list[Change]) -> list[tuple[str, bool]]:
    return [(change.name, change.begins) for change in changes]


def gan(step: int, accuracy: float, **extra: float) -> MetricsRow:
    return row(
        step,
        {"d1": 0.6, "d2": 0.6, "g": 0.8},
        seen__accuracy_real=accuracy,
        seen__accuracy_fake=accuracy,
        **extra,
    )


def test_an_average_of_equal_values_is_that_value_from_the_first_on():
    average = Average(half_life=7)
    assert math.isnan(average.value)
    for _ in range(5):
        average.add(3.0)
        assert average.value == pytest.approx(3.0)
    average.add(math.nan)
    assert average.value == pytest.approx(3.0)


def test_after_a_half_life_half_of_a_change_is_taken_in():
    average = Average(half_life=20)
    for _ in range(2000):
        average.add(0.0)
    for _ in range(20):
        average.add(1.0)
    assert average.value == pytest.approx(0.5, abs=1e-3)


def test_deviations_are_counted_from_the_median():
    typical = Typical(8)
    assert typical.above(100.0) == 0.0  # nothing is known yet
    for value in (8.0, 9.0, 10.0, 11.0, 12.0):
        typical.add(value)
    assert typical.above(13.0) == pytest.approx(3.0)  # median 10, median deviation 1


def test_a_discriminator_that_wins_is_named_once_and_released_once():
    accuracy = [0.7] * 100 + [1.0] * 150 + [0.7] * 150
    changes = story((gan(step, value) for step, value in enumerate(accuracy)), opposed=True)
    assert names_of(changes) == [("discriminator wins", True), ("discriminator wins", False)]
    begins, ends = changes
    assert 100 < begins.since <= begins.step <= 100 + 0.25 * STEPS
    assert begins.step - begins.since == Monitor().patience_steps(STEPS)
    assert ends.step > 250
    assert "accuracy" in begins.finding.measured


def test_a_discriminator_that_is_right_but_hardly_sure_leaves_the_generator_a_gradient():
    def rows(apart: float):
        for step in range(STEPS):
            yield gan(step, 0.99, seen__logit_real=apart / 2, seen__logit_fake=-apart / 2)

    assert story(rows(1.05), opposed=True) == []
    assert names_of(story(rows(4.0), opposed=True)) == [("discriminator wins", True)]


def test_young_samples_that_come_apart_are_no_mode_collapse_but_samples_that_stay_alike_are():
    def rows(varied: Callable[[int], float]):
        for step in range(STEPS):
            watched = {"monitor__diversity": varied(step)} if step % 20 == 19 else {}
            yield gan(step, 0.75, **watched)

    assert story(rows(lambda step: min(0.1 + step / STEPS, 0.6)), opposed=True) == []
    assert names_of(story(rows(lambda step: 0.2), opposed=True)) == [("mode collapse", True)]


def test_the_equilibrium_and_a_loss_that_rises_against_an_opponent_are_no_verdict():
    rows = [gan(step, 0.5 + 0.1 * (step % 2)) for step in range(STEPS)]
    assert story(rows, opposed=True) == []
    rising = [row(step, {"d": 0.693, "g": 0.693 + step / 50}, seen__accuracy=0.75) for step in range(STEPS)]
    assert story(rising, opposed=True) == []


def test_warm_up_and_what_is_ignored_are_not_judged():
    rows = [gan(step, 1.0 if step < 20 else 0.7) for step in range(STEPS)]
    assert story(rows, opposed=True) == []
    always = [gan(step, 1.0) for step in range(STEPS)]
    assert story(always, opposed=True, settings=Monitor(ignore=("discriminator wins",))) == []


def test_held_out_images_that_look_fake_are_overfitting_but_not_where_the_gap_is_small():
    def rows(scale: float):
        for step in range(STEPS):
            watched = {"held_out__logit": -0.9 * scale, "trained__logit": scale} if step % 20 == 19 else {}
            yield gan(step, 0.8, seen__logit_real=scale, seen__logit_fake=-scale, **watched)

    assert names_of(story(rows(2.0), opposed=True)) == [("discriminator overfits", True)]
    assert story(rows(0.1), opposed=True) == []


@pytest.mark.parametrize(
    ("watched", "name"),
    [
        ({"monitor__diversity": 0.2}, "mode collapse"),
        ({"monitor__classes": 0.3}, "mode collapse"),
        ({"monitor__condition": 0.001}, "condition ignored"),
        ({"monitor__copies": 0.5}, "memorising"),
    ],
)
def test_samples_are_judged_when_two_watches_agree(watched, name):
    def rows(every: int):
        for step in range(STEPS):
            yield row(step, {"mse": 0.1}, **(watched if step % every == every - 1 else {}))

    changes = story(rows(40))
    assert names_of(changes) == [(name, True)]
    assert changes[0].step == 120  # the first watch past an eighth of the run is at 80, the next at 120


@pytest.mark.parametrize(
    ("watched", "name"),
    [
        ({"monitor__diversity": 0.2}, "mode collapse"),
        ({"monitor__classes": 0.3}, "mode collapse"),
        ({"monitor__condition": 0.001}, "condition ignored"),
    ],
)
def test_samples_that_are_noise_yet_are_not_judged(watched, name):
    """However long it takes; once they have left it, two watches agree."""

    def rows():
        for step in range(STEPS):
            grain = {"monitor__noise": 0.6 if step < 250 else 0.4}
            yield row(step, {"mse": 0.1}, **(watched | grain if step % 40 == 39 else {}))

    changes = story(rows())
    assert names_of(changes) == [(name, True)]
    assert changes[0].step == 320  # 280 is the first watch past 250


def test_samples_that_cover_the_data_may_be_alike():
    def rows(coverage: float):
        for step in range(STEPS):
            watched = {"monitor__diversity": 0.35, "monitor__coverage": coverage} if step % 20 == 19 else {}
            yield row(step, {"mse": 0.1}, **watched)

    assert names_of(story(rows(0.3))) == [("mode collapse", True)]
    assert story(rows(0.95)) == []


def test_colours_that_were_never_right_have_not_drifted():
    def rows(early: float):
        for step in range(STEPS):
            watched = {"monitor__colour": early if step < 200 else 0.4} if step % 20 == 19 else {}
            yield row(step, {"mse": 0.1}, **watched)

    assert names_of(story(rows(0.02))) == [("colour drift", True)]
    assert story(rows(0.4)) == []


def test_what_colours_were_in_the_first_quarter_does_not_count():
    """A young network's mean colour swings through that of the data."""

    def rows(right_until: int):
        for step in range(STEPS):
            watched = {"monitor__colour": 0.02 if step < right_until else 0.4} if step % 20 == 19 else {}
            yield row(step, {"mse": 0.1}, **watched)

    assert story(rows(STEPS // 4)) == []
    assert names_of(story(rows(STEPS // 2))) == [("colour drift", True)]


def test_a_few_spikes_are_nothing_and_many_are_a_verdict():
    def rows(every: int):
        for step in range(STEPS):
            spike = step > 200 and step % every == 0
            yield row(step, {"mse": 0.1}, grad_norm__net=1000.0 if spike else 1.0 + 0.01 * (step % 3))

    assert story(rows(60)) == []
    assert names_of(story(rows(8)))[0] == ("not finite or spike", True)


def test_a_loss_that_is_not_finite_or_far_above_its_beginning_diverges():
    broken = [row(step, {"mse": math.nan if step > 100 else 0.1}) for step in range(STEPS)]
    assert names_of(story(broken)) == [("not finite or spike", True)]
    risen = [row(step, {"mse": 0.1 if step < 100 else 5.0}) for step in range(STEPS)]
    assert names_of(story(risen)) == [("not finite or spike", True)]


def test_norms_that_grow_with_what_is_learned_are_no_spikes():
    """As an encoder's do, once its latent is used: from 1 to 1,000 in 120 steps, then steady, and noisy."""

    def norm(step):
        return 10 ** min(step / 40, 3.0) * (1.0 + 0.4 * (step % 3))

    assert story([row(step, {"mse": 0.1}, grad_norm__encoder=norm(step)) for step in range(STEPS)]) == []


def test_a_kl_that_rises_while_the_prior_covers_less_is_an_explosion_and_alone_is_none():
    def rows(kl_to, coverage_to):
        for step in range(STEPS):
            late = max(0.0, (step - 200) / 200)
            seen = {"monitor__coverage": 0.75 + (coverage_to - 0.75) * late} if step % 10 == 0 else {}
            yield row(step, {"mse": 0.04, "kl": 40.0 + (kl_to - 40.0) * late}, **seen)

    assert names_of(story(rows(400.0, 0.5))) == [("KL explosion", True)]
    assert story(rows(400.0, 0.7)) == []  # more than .8 of what it was
    assert story(rows(60.0, 0.2)) == []


def test_a_kl_of_nothing_is_a_collapse_and_one_that_grows_is_none():
    collapsed = [row(step, {"mse": 0.04, "kl": 3.0 * 0.9**step}) for step in range(STEPS)]
    assert names_of(story(collapsed)) == [("KL collapse", True)]
    learning = [row(step, {"mse": 0.04, "kl": 0.2 + step / 20}) for step in range(STEPS)]
    assert story(learning) == []


YOUNG = [  # KL of the first 80 steps of faces-small as recorded; no unit is active before the last watch
    0.36, 0.35, 0.32, 0.37, 0.31, 0.32, 0.38, 0.29, 0.28, 0.3, 0.27, 0.26, 0.26, 0.25, 0.22, 0.2,
    0.17, 0.15, 0.14, 0.14, 0.13, 0.12, 0.08, 0.08, 0.07, 0.08, 0.07, 0.08, 0.07, 0.06, 0.06, 0.05,
    0.06, 0.06, 0.06, 0.05, 0.05, 0.04, 0.06, 0.05, 0.08, 0.1, 0.09, 0.07, 0.1, 0.14, 0.11, 0.12,
    0.17, 0.15, 0.11, 0.09, 0.09, 0.1, 0.07, 0.09, 0.08, 0.06, 0.08, 0.09, 0.06, 0.11, 0.07, 0.06,
    0.06, 0.08, 0.07, 0.07, 0.08, 0.08, 0.09, 0.11, 0.13, 0.23, 0.17, 0.27, 0.43, 0.76, 0.5, 0.56,
]  # fmt: skip


def test_a_kl_that_falls_and_has_not_begun_to_rise_is_no_collapse_but_one_that_stays_there_is():
    def rows(kl: list[float]):
        for step, value in enumerate(kl):
            seen = {"held_out__active units": 6.0 if step == 79 else 0.0} if step % 10 == 9 else {}
            yield row(step, {"nll": 0.1, "kl": value}, **seen)

    assert story(rows(YOUNG), steps=80) == []
    stays = YOUNG[:40] + 5 * YOUNG[55:70]
    (change,) = story(rows(stays), steps=len(stays))
    assert (change.name, change.begins) == ("KL collapse", True)
    assert change.since == 85  # 50 steps after it has ceased to fall


def test_the_same_rows_give_the_same_verdicts_however_they_are_cut():
    rows = [gan(step, 1.0 if step > 150 else 0.7) for step in range(STEPS)]
    judge = HealthMonitor(Vitals(STEPS, True), lambda step: Monitor())
    parts = [change for part in (rows[:130], rows[130:171], rows[171:]) for row in part
             for change in judge.add(row)]  # fmt: skip
    assert parts == story(rows, opposed=True)


def test_samples_of_a_prior_may_be_alike():
    def rows(**losses: float):
        for step in range(STEPS):
            watched = {"monitor__diversity": 0.2, "monitor__coverage": 0.2} if step % 20 == 19 else {}
            yield row(step, {"nll": 0.1, **losses}, **watched)

    assert names_of(story(rows())) == [("mode collapse", True)]
    assert story(rows(kl=20.0)) == []
