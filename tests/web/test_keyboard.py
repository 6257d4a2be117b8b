"""By keyboard alone: Tab reaches every control, and Enter sends every act with what was typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the page needs the extra web")
pytest.importorskip("playwright", reason="the tests in a browser need the extra browser")

from playwright import sync_api

from compare_runs import Made
from safelight.store.journal_writer import JournalWriter

FOCUSED = """() => { const on = document.activeElement; const label = on.labels?.[0] ?? on;
    return (on.getAttribute("aria-label") ?? label.innerText ?? "").trim(); }"""
REACHABLE = """() => [...document.querySelectorAll("a[href], button, input, select, summary")]
    .filter((each) => !each.disabled && each.checkVisibility({ visibilityProperty: true }))"""
ACTS = {  # the controls that Enter is pressed on, values typed on the way, and what is sent
    "fork": ("/run/whole?step=20", ["Fork", "Fork step 20"], {"step": 20, "changes": {}, "train": True}),
    "rollback": ("/run/whole?step=20", ["Roll back", "Roll back to step 20"],
                 {"step": 20, "changes": {}, "train": True}),
    "pin": ("/run/whole?step=20", ["Pin", "name=calm", "Pin step 20"], {"step": 20, "name": "calm"}),
    "resume": ("/run/whole", ["Train longer", "until step=40", "Train longer"], {"steps": 40}),
    "tune": ("/run/paused", ["Edit", "Half of optim.lr", "Edit from the next step on"],
             {"changes": {"optim.lr": 0.0005}}),
    "evaluate": ("/run/whole/measure", ["samples=50", "Evaluate"], {"step": 30, "n": 50}),
    "preview-prune": ("/run/whole/disk", ["to a budget of=1 MB", "Show what would go"], {"budget": "1 MB"}),
    "search": ("/run/whole/pick", ["Draw the first sheet"], {"name": "picking"}),
    "save": ("/run/whole", ["Save page"], {}),
}  # fmt: skip
IGNORED = {"changes": {"monitor.ignore": ["not finite or spike"]}}
REMEDY = {"step": 20, "changes": {"optim.lr": 0.0005}}


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("keys") / "runs"
    shutil.copytree(finished.path, runs / "whole")
    made = Made(runs)("paused", {"train.precision": "fp32", "optim.clip": 1.0}, done=50,
                      end="stopped")  # fmt: skip
    with made.lock(), JournalWriter(made.journal_path) as writer:
        verdict = {"name": "not finite or spike", "begins": True, "step": 30, "rescue": 20, "measured": "nan",
                   "expected": "numbers"}  # fmt: skip
        writer.append("verdict", verdict)
    return runs


def tab_to(page: sync_api.Page, name: str) -> None:
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED) == name:
            return
    raise AssertionError(f"Tab does not reach {name!r}")


JOB = {"id": 1, "status": "running", "command": "", "run": "", "output": "", "files": [], "begun": None}


def sent(tab, address: str, controls: list[str]) -> dict:
    """What is sent to the server, which is not there, when Enter is pressed on one control after another."""
    page = tab.page
    page.route("**/api/jobs", lambda to: to.fulfill(json=JOB if to.request.method == "POST" else []))
    page.route("**/api/jobs/1", lambda to: to.fulfill(json=JOB))
    tab.open(address)
    page.wait_for_load_state("networkidle")
    with page.expect_request(lambda request: request.method == "POST") as request:
        for control in controls:
            name, typed, value = control.partition("=")
            tab_to(page, name)
            if typed:
                page.keyboard.press("Control+a")
                page.keyboard.type(value)
            else:
                page.keyboard.press("Enter")
    return request.value.post_data_json


@pytest.mark.parametrize("act", ACTS)
def test_an_act_is_done_by_tab_and_enter(tab, act):
    address, controls, options = ACTS[act]
    assert sent(tab, address, controls) == {
        "act": act,
        "run": address.split("?")[0].split("/")[2],
        "options": options,
    }


@pytest.mark.parametrize(
    ("control", "act", "options"),
    [("Ignore this", "tune", IGNORED), ("Fork step 20 with it", "fork", REMEDY)],
)
def test_a_verdict_is_answered_by_tab_and_enter(tab, control, act, options):
    assert sent(tab, "/run/paused/health", [control]) == {"act": act, "run": "paused", "options": options}


@pytest.mark.parametrize("tab", [(1400, "light"), (390, "dark")], indirect=True)
@pytest.mark.parametrize(
    "address", ["/", "/run/whole", "/run/whole/disk", "/side?run=whole&run=paused", "/jobs"]
)
def test_tab_reaches_every_control_and_shows_where_it_is(tab, address):
    tab.open(address)
    tab.page.wait_for_load_state("networkidle")
    controls = tab.page.evaluate_handle(REACHABLE)
    seen = set()
    for _ in range(tab.page.evaluate("all => all.length", controls) + 2):
        tab.page.keyboard.press("Tab")
        at, shown = tab.page.evaluate(
            "all => { const on = document.activeElement, box = on.closest('.over') ?? on;"
            " return [all.indexOf(on), getComputedStyle(box).outlineStyle]; }", controls
        )  # fmt: skip
        assert at < 0 or shown != "none"
        seen.add(at)
    assert seen >= {*range(tab.page.evaluate("all => all.length", controls))}
