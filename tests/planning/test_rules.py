"""Each rule by which a recipe is made for a folder, on what a look might have seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from safelight.config import UserError
from safelight.data.glance import Glance
from safelight.planning import ladder, rules
from safelight.planning.ladder import LADDER, SEEN


def seen(**facts):
    plain = Glance(
        name="photos", images=800, sizes=np.array([[64, 64]] * 10), colour=True, transparent=False,
        classes={}, attributes=(), share={}, captions=0.0, distinct=0.0, sides=False, mask_classes=0,
        mask_problem="", copies=0.0, symmetry=1.0, edge="", seconds=0.0, bad=(),
    )  # fmt: skip
    return replace(plain, **facts)


def values(choices):
    return {choice.key: choice.value for choice in choices}


@pytest.mark.parametrize(("images", "words"), [(1, "one picture"), (7, "7 pictures")])
def test_too_few_pictures_are_refused(images, words):
    with pytest.raises(UserError, match=f"photos holds {words}; give 8 or more"):
        rules.enough(seen(images=images), "photos")
    rules.enough(seen(images=8), "photos")


@pytest.mark.parametrize(
    ("images", "used", "count"), [(999, [], None), (1600, [], 50), (9000, [], 64), (9000, ["label"], None)]
)
def test_many_pictures_without_a_condition_are_clustered(images, used, count):
    chosen = values(rules.clusters(seen(images=images), used))
    assert chosen == ({} if count is None else {"data.clusters": count})
    guidance = {None: 1.5 if used else 1.0}.get(count, 1.3)
    assert values(rules.sampling(seen(), used, count is not None))["sample.guidance"] == guidance


TWO = {"a": 100, "b": 300}


@pytest.mark.parametrize(
    ("facts", "chosen"),
    [
        ({}, {}),
        ({"share": {"label": 1.0}, "classes": TWO}, {"data.labels": True}),
        ({"share": {"label": 0.8}, "classes": TWO}, {"data.labels": False}),
        ({"share": {"label": 1.0}, "classes": {"a": 3, "b": 4, "c": 90}}, {"data.labels": False}),
        ({"share": {"text": 1.0}, "distinct": 0.9}, {"data.text_encoder": "words"}),
        ({"share": {"text": 1.0}, "distinct": 0.1}, {}),
        ({"share": {"text": 0.5}, "distinct": 0.9}, {}),
        ({"share": {"text": 1.0, "label": 1.0}, "classes": TWO, "distinct": 0.9},
         {"data.text_encoder": "words", "data.labels": False}),
        ({"share": {"mask": 1.0}, "mask_classes": 3}, {"data.mask_classes": 3}),
        ({"share": {"mask": 0.5}, "mask_classes": 3}, {"data.mask": "none"}),
        ({"share": {"mask": 1.0}, "mask_problem": "soft edges"}, {"data.mask": "none"}),
        ({"share": {"mask": 1.0}, "mask_problem": "greys", "mask_classes": 2}, {"data.mask_values": "soft"}),
        ({"transparent": True}, {"data.mask": "alpha"}),
        ({"share": {"attributes": 0.5}, "attributes": ("age",)}, {"data.attributes": []}),
        ({"share": {"attributes": 1.0}, "attributes": ("age",)}, {}),
    ],
)  # fmt: skip
def test_conditions_are_used_where_nine_of_ten_have_them(facts, chosen):
    assert values(rules.conditions(seen(**facts))) == chosen


def test_pictures_are_not_enlarged():
    assert ladder.largest(seen(sizes=np.array([[600, 400]] * 10))) == 256
    assert ladder.largest(seen(sizes=np.array([[100, 400]] * 10))) == 64
    assert ladder.largest(seen(sizes=np.array([[20, 20]] * 10))) == 32


def test_a_rung_is_the_highest_that_sees_enough():
    whole = seen(sizes=np.array([[300, 300]] * 10))
    for place in range(len(LADDER)):
        power = 1.001 * SEEN * LADDER[place].cost
        assert ladder.choose(whole, {}, lambda rung, power=power: power / rung.cost)[0] == LADDER[place]
    assert ladder.choose(whole, {}, lambda rung: 10.0)[0] == LADDER[0]


def test_a_stated_size_is_climbed_within():
    chosen, reason = ladder.choose(seen(), {"data.size": 64}, lambda rung: 10.0)
    assert chosen == next(rung for rung in LADDER if rung.side == 64)
    assert "stated size" in ladder.choose(seen(), {"data.size": 64}, lambda rung: 1e9)[1]
    assert reason


def test_costs_rise_with_every_rung():
    costs = [rung.cost for rung in LADDER]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs)


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        ([[28, 28]] * 4, 28),  # as they are
        ([[30, 30]] * 4, 32),  # does not divide by 4
        ([[24, 32]] * 4, [24, 32]),
        ([[1080, 1920]] * 9 + [[500, 500]], [24, 44]),  # 9:16, of 32x32 pixels
        ([[1080, 1920]] * 5 + [[1920, 1080]] * 5, 32),
    ],
)
def test_shape(sizes, size):
    assert rules.shape(seen(sizes=np.array(sizes)), LADDER[0]).value == size


def test_a_crop_says_what_it_cuts():
    assert (
        "cuts 50%"
        in rules.shape(seen(sizes=np.array([[100, 200], [200, 100]] * 4 + [[100, 200]])), LADDER[0]).reason
    )


VARIED = np.array([[100, 178], [178, 100], [100, 100], [150, 100]] * 20)


def test_buckets_where_one_shape_would_cut_much_and_they_do_not():
    chosen = rules.shapes(seen(sizes=VARIED), LADDER[0], {})
    assert values(chosen) == {"data.size": 32, "data.buckets": 4}
    assert "cut 3% on average, to a single one 30%" in chosen[1].reason
    assert rules.shapes(seen(sizes=VARIED), LADDER[0], {"data.size": 64})[1].value == 4


def test_pictures_on_one_colour_are_kept_whole_where_a_square_would_cut_them():
    chosen = rules.shapes(seen(sizes=VARIED, edge="#fafafa"), LADDER[0], {})
    assert values(chosen) == {"data.size": 32, "data.fit": "contain", "data.background": "#fafafa"}
    assert "cut 30% of them" in chosen[1].reason
    for facts, stated in (
        ({"sizes": np.array([[100, 104], [100, 100]] * 40), "edge": "#fafafa"}, {}),
        ({"sizes": VARIED, "edge": "#fafafa"}, {"data.fit": "crop"}),
    ):
        assert "data.background" not in values(rules.shapes(seen(**facts), LADDER[0], stated))


@pytest.mark.parametrize(
    ("facts", "stated"),
    [
        ({"sizes": VARIED, "images": 399}, {}),  # few
        ({"sizes": np.array([[100, 178]] * 80)}, {}),  # of one proportion, which one shape can have
        ({"sizes": np.array([[100, 120], [120, 100]] * 40)}, {}),  # crops cut 17 %
        ({"sizes": VARIED}, {"network.name": "digits_unet"}),
        ({"sizes": VARIED}, {"data.turn": "quarter"}),
        ({"sizes": VARIED}, {"data.buckets": None}),
    ],
)
def test_no_buckets_without_need_or_where_they_cannot_be(facts, stated):
    seen_ = seen(**facts)
    assert rules.shapes(seen_, LADDER[0], stated) == [rules.shape(seen_, LADDER[0])]


@pytest.mark.parametrize(
    ("facts", "flip"),
    [
        ({}, True),
        ({"sides": True, "share": {"text": 1.0}}, False),
        ({"classes": {"3": 100, "4": 100}}, False),
        ({"symmetry": 4.0}, False),
        ({"images": 50_000}, False),
    ],
)
def test_few_pictures_are_mirrored_where_sides_are_alike(facts, flip):
    assert rules.mirror(seen(**facts)).value is flip


def test_rates_and_averages_go_with_the_number_of_steps():
    assert [rules.rate(steps) for steps in (200, 1000, 4000, 10**6)] == [5e-3, 5e-3, 2.5e-3, 5e-4]
    short, long = values(rules.length(100, 32, 800)), values(rules.length(4000, 32, 800))
    assert (short["train.ema"], long["train.ema"]) == (0.9, 0.995)
    assert (short["optim.warmup"], long["optim.warmup"]) == (5, 100)


def test_guidance_is_for_conditions():
    assert [
        values(rules.sampling(seen(), names))["sample.guidance"] for names in ([], ["label"], ["text"])
    ] == [1, 1.5, 2]


def test_evaluation_by_what_knows_the_pictures():
    def features(installed, used=(), **facts):
        return values(rules.looking(seen(**facts), 800, 32, used, installed))["evaluate.features"]

    assert features(True, ["label"], classes={"a": 100, "b": 100}) == "classifier"
    assert features(True, ["label"], classes={"a": 10, "b": 100}) == "efficientnet"
    assert features(False) == "random"


@pytest.mark.parametrize(
    ("colour", "width", "prediction"), [(True, 32, "x0"), (False, 32, "v"), (True, 96, "v")]
)
def test_v_is_predicted_where_patches_are_few_values_for_the_width(colour, width, prediction):
    chosen = rules.method(seen(colour=colour), replace(LADDER[0], width=width))
    assert values(chosen)["method.prediction"] == prediction


def test_grey_pictures_come_twice_as_many_a_step():
    assert [rules.batch(seen(colour=colour), LADDER[0]) for colour in (True, False)] == [32, 64]


def test_few_pictures_hold_out_few():
    assert [rules.held_out(seen(images=images)).value for images in (100, 800, 50_000)] == [0.05, 0.1, 0.02]
