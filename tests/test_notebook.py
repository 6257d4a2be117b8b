"""Notebooks: what a cell shows of a run and of samples, widgets, and their front end in Chromium."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip("anywidget", reason="the widgets need the extra notebook")

import safelight as sl
from safelight import notebook
from safelight.explore.moved import Mover
from safelight.render.sheet import sheet
from safelight.render.sheet_file import encode_png
from safelight.run import Run
from safelight.store import metrics
from safelight.store.directory import RunDirectory
from safelight.store.metrics import MetricsRow, MetricsWriter

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def copied(finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    shutil.copytree(finished.path, tmp_path / "runs" / "whole")
    return RunDirectory(tmp_path / "runs" / "whole")


@pytest.fixture
def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread looks; the test does."""
    monkeypatch.setattr(notebook, "Thread", Mock())


def test_a_live_view_has_the_recorded_curves_and_the_newest_sheet(copied, unlocked):
    shown = sl.live("whole", runs=copied.path.parent)
    columns = metrics.read(copied.path)
    assert shown.state["steps"] == list(range(1, 31))
    assert shown.state["series"]["mse"] == pytest.approx(columns["raw/mse"].tolist(), rel=1e-5)
    assert shown.picture == (copied.sheets / "00000030.png").read_bytes()
    assert repr(shown).startswith("whole: step 30 of 30, finished")


def test_a_live_view_follows_what_is_written(copied, unlocked):
    shown, looker = notebook.live(copied), notebook._Looker(copied)
    looker.show(shown)
    before = shown.picture
    with MetricsWriter(copied.path, 2, 30) as writer:
        writer.append([MetricsRow(30, {"mse": float("nan")}, 1.0, {}, 372, 0.1, "ab")])
    shutil.copy(copied.sheets / "00000020.png", copied.sheets / "00000031.png")
    looker.show(shown)
    assert shown.state["steps"][-1] == 31
    assert shown.state["series"]["mse"][-1] is None  # JSON has no NaN
    assert shown.picture != before


def test_a_live_view_waits_for_a_run_and_ends_with_it(finished, tmp_path, monkeypatch):
    rests: list[float] = []

    def begin(seconds: float) -> None:
        rests.append(seconds)
        shutil.copytree(finished.path, tmp_path / "later")

    monkeypatch.setattr(notebook.time, "sleep", begin)
    monkeypatch.setattr(notebook, "Thread", Mock())
    shown = sl.live("later", runs=tmp_path)
    assert shown.state["words"] == "later: waiting for it to begin"
    notebook._Looker(RunDirectory(tmp_path / "later")).follow(shown)
    assert shown.state["status"] == "finished"
    assert rests == [notebook.IDLE]


def test_sliders_draw_what_the_traversal_has_there(finished):
    run = Run(finished)
    made = run.traverse(["label=0..9"], rows=2)
    assert made.images.shape[:2] == (2, 10)
    widget = notebook.moved_by_hand(made.model, made.request)
    widget.wish = {"number": 1, "values": [7], "seed": 0}
    assert widget.picture == encode_png(sheet(made.images[:, 7]))
    assert (widget.state["number"], widget.state["mistake"]) == (1, "")
    widget.wish = {"number": 2, "values": [12], "seed": 0}  # the nearest there is
    assert widget.picture == encode_png(sheet(made.images[:, 9]))


def test_a_mistake_is_said_under_the_sliders(finished, monkeypatch):
    made = Run(finished).traverse(["label=0..9"], rows=2)
    widget = notebook.moved_by_hand(made.model, made.request)

    def refuse(*given: object) -> None:
        raise sl.UserError("no such thing")

    monkeypatch.setattr(Mover, "images", refuse)
    widget.wish = {"number": 1, "values": [3], "seed": 0}
    assert (widget.state["number"], widget.state["mistake"]) == (1, "no such thing")


def test_moved_by_nothing_is_what_sample_draws(finished):
    run = Run(finished)
    drawn = Mover().images(run.model, 4, 3, {"label": 2}, {"pca:1": 0.0})
    np.testing.assert_array_equal(drawn, run.sample(4, seed=3, label=2).images)
    with pytest.raises(sl.UserError, match="images"):  # latents of this run
        Mover().images(run.model, 4, 3, {}, {"pca:1": 1.0})


def test_runs_and_samples_say_what_they_are(finished):
    run = Run(finished)
    assert repr(run) == "<Run whole: at step 30 of 30 / 30, finished>"
    samples = run.sample(4, label=3)
    assert repr(samples) == "<Samples: 4 of 28x28, given label>"
    html = samples._repr_html_()
    assert 'alt="Samples: 4 of 28x28, given label; ' in html
    assert "data:image/png;base64," in html


@pytest.mark.filterwarnings("ignore")
def test_a_notebook_shows_widgets_with_pictures_for_readers_without_a_kernel(copied):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    folder = str(copied.path.parent)
    cells = [
        f"import safelight as sl\nrun = sl.open_run('whole', runs={folder!r})\nrun",
        "run.live()",
        "run.traverse(['label=0..9'], rows=2)",
        "run.sample(4)",
    ]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(made, timeout=300).execute()
    kinds = [{kind for output in cell.outputs for kind in output.get("data", {})} for cell in made.cells]
    view = "application/vnd.jupyter.widget-view+json"
    assert kinds == [
        {"text/plain", "text/html"},
        {"text/plain", "image/png", view},
        {"text/plain", "image/png", view},
        {"text/plain", "text/html", "image/png"},
    ]
    assert made.cells[1].outputs[0].data["text/plain"].startswith("whole: step 30 of 30, finished")


HARNESS = """async (state) => {
    const { default: widget } = await import("/widget.js");
    const listeners = {};
    window.sent = [];
    state.picture = new DataView(Uint8Array.from(atob(state.picture), (each) => each.charCodeAt(0)).buffer);
    window.model = {
        get: (name) => state[name], set: (name, value) => { state[name] = value; },
        on: (name, tell) => (listeners[name] ??= []).push(tell), off: () => {},
        save_changes: () => sent.push(state.wish),
    };
    window.answer = (name, value) => {
        state[name] = value;
        for (const tell of listeners[`change:${name}`] ?? []) tell();
    };
    window.state = state;
    const el = document.body.appendChild(document.createElement("div"));
    widget.render({ model, el });
}"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
def test_the_front_end_draws_and_asks_for_the_latest_alone(finished, unlocked):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
    from base64 import b64encode

    shown = notebook.live(finished)
    picture = b64encode(shown.picture).decode()
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page, said = browser.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.route(
            "**/widget.js", lambda route: route.fulfill(content_type="text/javascript", body=shown._esm)
        )
        page.route("**/", lambda route: route.fulfill(content_type="text/html", body="<!doctype html>"))
        page.goto("http://notebook.test/")
        page.evaluate(HARNESS, {"kind": "live", "state": shown.state, "picture": picture})
        page.wait_for_selector(".u-over")
        assert "step 30 of 30" in page.inner_text("p[role=status]")
        assert page.evaluate("document.querySelector('img').decode().then(() => true)")
        page.get_by_label("log").check()
        page.evaluate("answer('state', {...state.state, words: 'whole: step 31'})")
        assert page.inner_text("p[role=status]") == "whole: step 31"
        page.goto("http://notebook.test/")
        sliders = [{"key": "hair", "low": 0, "high": 1, "step": 0.01, "value": 0}]
        first = {"words": "", "sliders": sliders, "seed": 0, "number": 0, "mistake": ""}
        page.evaluate(HARNESS, {"kind": "sliders", "state": first, "picture": picture})
        slider = page.get_by_label("hair")
        for value in ("0.2", "0.4", "0.6"):
            slider.fill(value)
        assert page.evaluate("sent") == [{"number": 1, "values": [0.2], "seed": 0}]
        page.evaluate("answer('state', {...state.state, number: 1})")
        assert page.evaluate("sent.at(-1)") == {"number": 2, "values": [0.6], "seed": 0}
        page.evaluate("answer('state', {...state.state, number: 2, mistake: 'no such thing'})")
        assert page.inner_text("p[role=alert]") == "no such thing"
        assert page.evaluate("sent.length") == 2
        assert said == []
        browser.close()
