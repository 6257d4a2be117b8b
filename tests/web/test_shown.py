"""Every screen says what its command prints with --json: in the browser, and as tables without a script."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the page needs the extra web")

from command_line import run as command
from compare_runs import BASIS, Made
from page_client import Page
from safelight.store import size
from safelight.store.journal_writer import JournalWriter
from safelight.web.jobs import Job
from safelight.web.shell import SCREENS

Rows = list[list[str]]


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory) -> Path:
    """One trained run; and two made-up ones, with evaluations that may not stand beside each other."""
    runs = tmp_path_factory.mktemp("shown") / "runs"
    shutil.copytree(finished.path, runs / "whole")
    made = Made(runs)
    first = made("first", edits=[(40, {"optim.lr": 0.0005})],
                 evaluated={"FD-classifier": 3.25, "KID-classifier": 0.0125})  # fmt: skip
    made("second", {"optim.lr": 0.002, "train.seed": 1}, evaluated={"FD-classifier": 4.5},
         basis={**BASIS, "n": "400"})  # fmt: skip
    with first.lock(), JournalWriter(first.journal_path) as writer:
        verdict = {"name": "KL collapse", "begins": True, "step": 60, "rescue": 50,
                   "measured": "0.01 nats a sample", "expected": "at least 0.1"}  # fmt: skip
        writer.append("verdict", verdict)
    return runs


def number(value: float) -> str:
    return f"{value:.4g}"


def runs_(said: Any) -> Rows:
    return [[run["name"], run["status"], f"{run['step']:,}", f"{run['steps']:,}"] for run in said]


def facts(said: Any) -> Rows:
    words = (said["status"], said["recipe"], *(f"{said[key]:,}" for key in ("step", "steps", "images")))
    return [[word] for word in (said["name"], *words)]


def measured(said: Any) -> Rows:
    """Of "first", which is the first row of its column."""
    (row,) = (row for column in said["metrics"]["columns"] for row in column["rows"] if row["run"] == "first")
    return [
        [name, number(each["value"]), number(each["floor"]), "100"] for name, each in row["numbers"].items()
    ]


def verdicts(said: Any) -> Rows:
    return [[name, "0.01 nats a sample", "at least 0.1", "60"] for name in said["verdicts"]]


def disk(said: Any) -> Rows:
    kept = [[f"{each['step']:,}", size.words(each["bytes"]), *each["why"]] for each in said["checkpoints"]]
    return [[kind, size.words(many)] for kind, many in said["kinds"].items()] + kept


def journal(said: Any) -> Rows:
    return [[entry["time"][:19].replace("T", " "), entry["kind"]] for entry in said]


def compared(said: Any) -> Rows:
    settings = [
        [row["key"], *(row["values"][run["name"]] for run in said["runs"])] for row in said["settings"]
    ]
    rows = [row for kind in ("metrics", "cost") for column in said[kind]["columns"] for row in column["rows"]]
    numbers = [[number(each["value"])] for row in rows for each in row["numbers"].values()]
    assert len(settings) > 1
    assert len(numbers) > 4
    return settings + numbers


SCREENS_SAID = {
    "/": ("runs", runs_),
    "/run/whole": ("show whole", facts),
    "/run/first/measure": ("compare first second", measured),
    "/run/first/health": ("show first", verdicts),
    "/run/whole/disk": ("disk whole", disk),
    "/run/first/journal": ("show first --journal", journal),
    "/side?run=first&run=second": ("compare first second", compared),
}


def has(rows: Iterable[str], wanted: Rows) -> None:
    """Some row has the words of each wanted one, in their order."""
    shown = [*rows]
    for words in wanted:
        form = re.compile(".*?".join(map(re.escape, words)), re.DOTALL)
        assert any(form.search(row) for row in shown), (words, shown)


class Tables(HTMLParser):
    """Rows of the tables of a page, as text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append("")
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")

    def handle_data(self, data: str) -> None:
        if self.rows:
            self.rows[-1] += f"{data} "


@pytest.fixture
def printed(folder, monkeypatch, capsys, tmp_path):
    """What a command prints with --json."""

    def printed(words: str) -> Any:
        out = ["--out", str(tmp_path / "out")] if words.startswith("compare") else []
        code, out_, _ = command(monkeypatch, capsys, *words.split(), "--runs", str(folder), "--json", *out)
        assert code == 0
        return json.loads(out_)

    return printed


@pytest.mark.parametrize("address", SCREENS_SAID)
def test_a_screen_says_what_its_command_prints(tab, printed, address):
    words, rows = SCREENS_SAID[address]
    wanted = rows(printed(words))
    assert wanted
    tab.open(address)
    if address.startswith("/side"):
        tab.page.locator("summary").click()
        tab.page.wait_for_selector(".comparable table")
    tab.page.wait_for_selector("table, .head.run, .finding")
    has(tab.page.locator("tr, .head.run, .finding").all_inner_texts(), wanted)


@pytest.mark.parametrize("address", SCREENS_SAID)
def test_without_a_script_its_tables_say_the_same(folder, printed, address):
    words, rows = SCREENS_SAID[address]
    has(Tables(Page(folder).enter().get(address).text).rows, rows(printed(words)))


def test_without_a_script_every_screen_is_reached_by_links_and_jobs_are_listed(folder):
    page = Page(folder).enter()
    job = Job(1, ["prune", "first"], [], "first", False, Path(), "failed", 2, problem="<b>no space left</b>")
    page.app.state.jobs.all[1] = job
    seen, left = set(), {"/"}
    while left - seen:
        address = (left - seen).pop()
        seen.add(address)
        answer = page.get(address)
        assert answer.status_code == 200, address
        left |= {*Tables(answer.text).links}
    assert {f"/run/second/{screen}".rstrip("/") for screen in SCREENS} | {"/", "/jobs"} <= seen
    text = page.get("/jobs").text
    has(Tables(text).rows, [["safelight prune first", "failed", "<b>no space left</b>"]])
    assert "&lt;b&gt;no space" in text
    assert "no such run" in page.get("/run/none").text
    assert page.get("/side?run=first").status_code == 200
