from __future__ import annotations

import math
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from safelight.render.figure_file import inline_svg, to_png, to_svg
from safelight.render.plot import POINTS, axis_scale, envelope, held_out_figure, lanes, loss_figure, thinned
from safelight.render.trends import Curve, Event, History, smooth

STEPS = np.arange(1000)
HOSTILE = '<script>alert("$x$")</script> \\frac{ & 漢字'


def history(**changes: object) -> History:
    loss = Curve("mse", STEPS, 1 / (1.0 + STEPS))
    signed = Curve("contrastive", STEPS[::16], np.cos(STEPS[::16] / 50))
    rate = Curve("unet", STEPS, np.full(1000, 1e-3))
    values = {"components": (loss, signed), "learning_rates": (rate,), "batch_size": 64, "dataset_size": 6400}
    return History(**(values | changes))  # type: ignore[arg-type]


def test_one_panel_a_component_on_the_scale_its_values_allow() -> None:
    mse, contrastive, rates = loss_figure(history()).axes[:3]
    assert (mse.get_yscale(), contrastive.get_yscale(), rates.get_yscale()) == ("log", "linear", "linear")
    assert "values reach 0 or below" in contrastive.get_title("right")
    assert mse.get_title("left") == "mse"


def test_raw_and_smoothed_values_are_drawn_as_they_are() -> None:
    raw, smoothed = loss_figure(history()).axes[0].lines[:2]
    np.testing.assert_array_equal(raw.get_ydata(), 1 / (1.0 + STEPS))
    np.testing.assert_allclose(smoothed.get_ydata(), smooth(STEPS, 1 / (1.0 + STEPS), 5.0))


def test_second_axis_counts_epochs_or_thousands_of_images() -> None:
    for size, expected in ((6400, [0.0, 9.99]), (None, [0.0, 999 * 64 / 1000])):
        figure = loss_figure(history(dataset_size=size))
        figure.draw_without_rendering()
        second = figure.axes[2].child_axes[0]
        np.testing.assert_allclose(second.get_xlim(), expected)


def test_events_cross_every_panel_and_are_named() -> None:
    events = (Event(400, "intervention", "optim.lr 1e-3 -> 5e-4"), Event(500, "checkpoint", "never shown"))
    events += (Event(5000, "resume", "past the curves"),)
    svg = to_svg(loss_figure(history(events=events)))
    assert "optim.lr 1e-3 -&gt; 5e-4" in svg
    assert "never shown" not in svg
    assert "past the curves" not in svg
    for ax in loss_figure(history(events=events)).axes:
        lines = [segment.tolist() for drawn in ax.collections for segment in drawn.get_segments()]
        assert lines == [[[400, 0], [400, 1]], [[500, 0], [500, 0.05]]]


def test_steps_that_were_not_finite_are_marked() -> None:
    values = np.ones(100)
    values[[3, 50]] = math.nan, math.inf
    ax = loss_figure(History((Curve("mse", np.arange(100), values),))).axes[0]
    crosses = next(line for line in ax.lines if line.get_marker() == "x")
    np.testing.assert_array_equal(crosses.get_xdata(), [3, 50])
    assert "not finite at 2 steps" in ax.get_title("right")


@pytest.mark.parametrize(
    "broken",
    [
        History(),
        History((Curve("mse", np.arange(3), np.full(3, math.nan)),)),
        History((Curve("mse", np.arange(0), np.zeros(0)),)),
        History((Curve("mse", np.array([7]), np.array([0.5])),)),
        History((Curve("mse", np.arange(2), np.zeros(2)),)),
        History((Curve("mse", np.arange(2), np.array([1e-30, 1e38])),)),
        History(learning_rates=(Curve("unet", np.arange(2), np.zeros(2)),)),
        History(held_out=(Curve("h", np.arange(1), np.full(1, math.nan)),)),
    ],
)
def test_poor_histories_still_give_figures(broken: History) -> None:
    for figure in (loss_figure(broken), held_out_figure(broken)):
        ElementTree.fromstring(to_svg(figure))


def test_held_out_values_of_one_unit_share_an_axis_and_others_do_not() -> None:
    values = {"mse": "squared error", "kl": "nats", "t 0.0-0.5": "", "t 0.5-1.0": ""}
    curves = tuple(Curve(name, STEPS, STEPS + 1.0, unit=unit) for name, unit in values.items())
    axes = held_out_figure(History(held_out=curves)).axes
    shown = [(ax.get_ylabel(), [line.get_label() for line in ax.lines]) for ax in axes]
    assert shown == [("squared error", ["mse"]), ("nats", ["kl"]), ("loss", ["t 0.0-0.5", "t 0.5-1.0"])]


def test_names_are_text_and_never_markup() -> None:
    named = Curve(HOSTILE, STEPS, STEPS + 1.0, note=HOSTILE)
    events = (Event(10, "verdict", HOSTILE),)
    figures = [
        loss_figure(History((named,), (named,), events=events)),
        held_out_figure(History(held_out=(named,))),
    ]
    for figure in figures:
        root = ElementTree.fromstring(to_svg(figure))
        assert not [element for element in root.iter() if element.tag.endswith("script")]
        assert any(HOSTILE in (element.text or "") for element in root.iter())
        assert "<script" not in inline_svg(figure, "a", HOSTILE)
        to_png(figure, 40)


def test_equal_figures_are_equal_bytes_and_settings_stay() -> None:
    before = dict(matplotlib.rcParams)
    drawn = [loss_figure(history()) for _ in range(2)]
    assert to_svg(drawn[0]) == to_svg(drawn[1])
    assert to_png(drawn[0], 50) == to_png(drawn[1], 50)
    assert dict(matplotlib.rcParams) == before


def test_inline_svg_names_no_address_and_its_ids_are_its_own() -> None:
    figure = Figure()
    figure.subplots().plot([1, 2], marker="o")
    svg = inline_svg(figure, "loss", 'curves "a" & b')
    assert "http" not in svg
    root = ElementTree.fromstring(svg)
    ids = {element.get("id") for element in root.iter() if element.get("id")}
    assert ids
    assert all(name and name.startswith("loss-") for name in ids)
    used = {element.get("href", "")[1:] for element in root.iter() if element.get("href")}
    assert used
    assert used <= ids
    assert root.get("aria-label") == 'curves "a" & b'


def test_scale_of_an_axis() -> None:
    assert axis_scale(np.array([1e-4, 10.0])) == ("log", 0.0)
    assert axis_scale(np.array([-1.0, 2.0])) == ("linear", 0.0)
    assert axis_scale(np.array([0.0, 0.0])) == ("linear", 0.0)
    assert axis_scale(np.array([0.0, 0.5, 0.5, 0.5, 100.0])) == ("symlog", 0.5)


def test_envelope_holds_every_value_of_its_run() -> None:
    values = np.random.default_rng(0).normal(size=1003)
    steps, low, high = envelope(np.arange(1003), values, 10)
    for start, end, least, greatest in zip(steps, [*steps[1:], 1003], low, high, strict=True):
        assert (values[start:end].min(), values[start:end].max()) == (least, greatest)
    assert steps[0] == 0


def test_long_curves_are_thinned_between_their_ends() -> None:
    steps = np.arange(50_000)
    kept, values = thinned(steps, steps * 2.0)
    assert len(kept) == POINTS
    assert (kept[0], kept[-1]) == (0, 49_999)
    np.testing.assert_array_equal(values, kept * 2.0)
    assert len(to_svg(loss_figure(History((Curve("mse", steps, 1.0 + steps),))))) < 200_000


def test_labels_in_a_row_never_overlap() -> None:
    spans = [(0.0, 10.0), (1.0, 3.0), (2.0, 12.0), (4.0, 5.0), (10.0, 20.0)]
    assert lanes(spans, 2) == [0, 1, None, 1, 0]
    assert lanes(spans, 3) == [0, 1, 2, 1, 0]


def test_events_without_room_for_a_name_are_counted() -> None:
    events = tuple(Event(500 + i, "intervention", f"weights.mse {i}.0 to {i + 1}.0") for i in range(7))
    note = loss_figure(history(events=events)).get_supxlabel()
    assert note.endswith("3 lines without room for a name")
    assert "room" not in loss_figure(history(events=events[:4])).get_supxlabel()
