"""Distances over training are drawn with floors and best step; a report prints them with their spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from safelight.render.figures import evaluated_figure
from safelight.render.page import write_page
from safelight.render.trends import Curve, History
from safelight.report.facts import Measured, RunFacts
from safelight.report.history import MethodFacts
from safelight.report.records import record_of
from safelight.report.run_origin import Reproduce
from safelight.report.run_page import run_page

STEPS = np.array([100, 200, 300, 400])
FD = Curve("FD-classifier", STEPS, np.array([90.0, 12.0, 5.0, 7.0]), reference=2.5)
KID = Curve("KID-classifier", STEPS, np.array([0.5, np.nan, 0.1, -0.01]), reference=0.001)


def test_a_panel_a_distance_with_its_floor_and_its_best() -> None:
    fd, kid = evaluated_figure(History(evaluated=(FD, KID))).axes
    floor, values, ring = fd.lines
    assert set(floor.get_ydata()) == {2.5}
    np.testing.assert_array_equal(values.get_xydata(), np.stack([STEPS, FD.values], 1))
    np.testing.assert_array_equal(ring.get_xydata(), [[300, 5.0]])
    assert fd.get_title("right") == "best 5 at step 300 · floor 2.5"
    assert fd.get_yscale() == "log"
    np.testing.assert_array_equal(kid.lines[1].get_xdata(), [100, 300, 400])  # what is not finite is no dot
    assert kid.get_title("right").startswith("best −0.01 at step 400")
    assert kid.get_yscale() != "log"


def test_a_report_has_the_curves_the_best_and_the_table(tmp_path: Path) -> None:
    lines = [{"step": step - 1, "images": step, "seconds": 0.1} for step in STEPS]
    for line, distance in zip(lines, FD.values, strict=True):
        line |= {"evaluate/FD-classifier": distance, "floor/FD-classifier": 2.5}
    run = RunFacts(
        "run",
        tmp_path,
        "finished",
        record=record_of(lines),
        measured=(Measured("KID-classifier", 0.00123, 400, {}, 0.0004, 0.0002, "5,000 samples"),),
        best=(300, "FD-classifier 5"),
    )
    for path in write_page(tmp_path, "report", run_page(run, MethodFacts(), Reproduce()), "report"):
        words = path.read_text()
        assert "Measurements" in words
        assert "Best: step 300 (FD-classifier 5)" in words
        assert "0.00123 ± 0.0002" in words
    assert (tmp_path / "report" / "evaluated.png").is_file()
    without = run_page(RunFacts("run", tmp_path, "finished"), MethodFacts(), Reproduce())
    assert "Measurements" not in write_page(tmp_path, "report", without, "report")[0].read_text()


def test_a_step_that_was_evaluated_again_is_told_apart(tmp_path: Path) -> None:
    each = ((400, "guidance 1"), (400, "guidance 2"), (200, "guidance 1"))
    measured = tuple(
        Measured(name, 0.5, step, {}, provenance=how) for step, how in each for name in ("FD", "KID")
    )
    run = RunFacts("run", tmp_path, "finished", measured=measured)
    page = run_page(run, MethodFacts(), Reproduce())
    table, rests_on = next(section.blocks for section in page.sections if section.title == "Measurements")
    assert [row[-1] for row in table.rows] == ["400", "400", "400 (2)", "400 (2)", "200", "200"]
    assert rests_on.pairs == (
        ("step 400", "guidance 1"),
        ("step 400 (2)", "guidance 2"),
        ("step 200", "guidance 1"),
    )
