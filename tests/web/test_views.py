"""What the page says is what the commands print with --json, and what it reads it does not change."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the page needs the extra web")

from command_line import run as command
from safelight.render.sheet_file import read_sheet
from safelight.store import metrics
from safelight.store.columns import Columns
from safelight.store.directory import RunDirectory
from safelight.store.metrics import MetricsRow, MetricsWriter


def printed(monkeypatch, capsys, runs: Path, *words: str):
    code, out, _ = command(monkeypatch, capsys, *words, "--runs", str(runs), "--json")
    assert code == 0
    return json.loads(out)


def row(step: int, **more: float) -> MetricsRow:
    return MetricsRow(step, {"mse": 1.0 / (step + 1)}, 0.5, {"g": 1e-3}, 8 * (step + 1), 0.25, "ab", more)


def digest(folder: Path) -> str:
    parts = [
        (str(path.relative_to(folder)), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


# --- equal to --json ---


def test_the_page_says_what_the_commands_print(page, runs, monkeypatch, capsys):
    shutil.copytree(runs / "whole", runs / "other")
    assert [each["summary"] for each in page.get("/api/runs").json()["runs"]] == printed(
        monkeypatch, capsys, runs, "runs"
    )
    branches = [each["branch"] for each in page.get("/api/runs").json()["runs"]]
    tree = printed(monkeypatch, capsys, runs, "tree")
    assert sorted(branches, key=str) == sorted(tree, key=str)
    shown = printed(monkeypatch, capsys, runs, "show", "whole")
    del shown["forecast"]  # reads every other run; the page does not show it
    assert page.get("/api/run/whole").json()["facts"] == shown
    assert page.get("/api/run/whole/disk").json() == printed(monkeypatch, capsys, runs, "disk", "whole")
    assert page.get("/api/run/whole/journal").json() == printed(
        monkeypatch, capsys, runs, "show", "whole", "--journal"
    )
    said = printed(monkeypatch, capsys, runs, "compare", "whole", "other")
    shown = page.get("/api/compare?run=whole&run=other").json()
    assert {name: said[name] for name in shown} == shown


def test_looking_changes_nothing_and_needs_no_lock(page, runs):
    before = digest(runs)
    for rest in ("", "/curves?column=raw/mse", "/values?step=9", "/price?step=9", "/aligned", "/disk",
                 "/journal", "/kept", "/picks", "/tiles/20.png", "/sheets/00000020.png"):  # fmt: skip
        assert page.get(f"/api/run/whole{rest}").status_code == 200, rest
    for address in ("/", "/run/whole", "/api/runs", "/api/compare?run=whole", "/api/states?of=*&of=whole"):
        assert page.get(address).status_code == 200
    assert digest(runs) == before


def test_the_static_tables_read_without_a_script(page):
    assert '<a href="/run/whole">whole</a>' in page.get("/").text
    assert "<td>finished</td>" in page.get("/run/whole").text


def test_the_server_does_not_import_torch():
    code = "import sys, safelight.web.serve; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- curves ---


def test_columns_are_those_of_the_record_and_grow_from_where_they_ended(tmp_path, monkeypatch):
    with MetricsWriter(tmp_path, 1, 0) as writer:
        writer.append([row(step, held=float(step)) if step % 3 == 0 else row(step) for step in range(10)])
        held = Columns(tmp_path)
        assert held.update()
        assert not held.update()
        monkeypatch.setattr(metrics, "parse_line", None)  # whole lines are parsed a block at a time
        writer.append([row(10, extra=float("nan")), row(11, extra=float("-inf"))])
        assert held.update()
    monkeypatch.undo()
    with MetricsWriter(tmp_path, 2, 6) as writer:  # resumed: the rows from step 6 on are made again
        writer.append([row(6, held=60.0), row(7)])
    assert held.update()
    recorded = metrics.read(tmp_path)
    assert held.rows == 8
    for name, values in recorded.items():
        if name != "fingerprint":
            np.testing.assert_array_equal(held[name], values)
    assert held.steps.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_damaged_and_torn_lines_are_passed_over_as_the_record_does(tmp_path):
    with MetricsWriter(tmp_path, 1, 0) as writer:
        writer.append(map(row, range(6)))
    path = tmp_path / "metrics-0001.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b'"total":0.5', b'"total":0.6')
    path.write_bytes(b"\n".join(lines)[:-30])
    held = Columns(tmp_path)
    held.update()
    assert held["step"].tolist() == metrics.read(tmp_path, ["step"])["step"].tolist() == [0, 1, 3, 4]
    path.write_bytes(b"\n".join(lines))  # the last line is written to its end
    assert held.update()
    assert held["step"].tolist() == [0, 1, 3, 4, 5]


def test_bins_keep_every_spike_and_stay_as_they_are(tmp_path):
    values = np.random.default_rng(0).random(1000)
    values[[77, 500]] = [9.0, -9.0]
    with MetricsWriter(tmp_path, 1, 0) as writer:
        writer.append(row(step, x=float(values[step])) for step in range(900))
        held = Columns(tmp_path)
        held.update()
        early = held.bins(["x"], 0, 900, 64)
        writer.append(row(step, x=float(values[step])) for step in range(900, 1000))
    held.update()
    later = held.bins(["x"], 0, 1000, 64)
    assert early.width == later.width == 16
    assert later.high["x"].max() == 9.0
    assert later.low["x"].min() == -9.0
    for bin, step in enumerate(later.steps):
        part = values[16 * bin : step]
        assert (later.low["x"][bin], later.high["x"][bin]) == (part.min(), part.max())
        assert later.mean["x"][bin] == pytest.approx(part.mean())
    whole = 900 // 16  # the last of the early ones was not full yet
    np.testing.assert_array_equal(early.low["x"][:whole], later.low["x"][:whole])


def test_only_what_is_new_is_sent(page, runs):
    whole = page.get("/api/run/whole/curves?column=raw/mse&bins=8").json()
    assert whole["whole"]
    assert whole["width"] == 4
    since = whole["steps"][-3]
    more = page.get(f"/api/run/whole/curves?column=raw/mse&bins=8&width=4&since={since}").json()
    assert not more["whole"]
    assert more["steps"] == whole["steps"][-3:]  # the bin of `since` may have grown
    assert more["columns"]["raw/mse"]["mean"] == whole["columns"]["raw/mse"]["mean"][-3:]
    assert page.get("/api/run/whole/curves?column=raw/mse&bins=80&width=4&since=9").json()["whole"]


# --- pictures ---


def test_tiles_are_the_images_of_the_sheet(page, runs):
    images = read_sheet(runs / "whole/sheets/00000020.png")
    answer = page.get("/api/run/whole/tiles/20.png?columns=5&v=1")
    assert answer.headers["cache-control"].endswith("immutable")
    with Image.open(io.BytesIO(answer.content)) as picture:
        pixels = np.asarray(picture)
    height, width = images.shape[1:3]
    for index, image in enumerate(images):
        y, x = (index // 5) * (height + 1), (index % 5) * (width + 1)
        assert (pixels[y : y + height, x : x + width, :3] == image).all()
        assert (pixels[y : y + height, x : x + width, 3] == 255).all()
    assert (pixels[height, :, 3] == 0).all()  # between them is nothing


# --- prices and events ---


def test_a_price_is_the_steps_from_the_checkpoint_before(page, runs):
    rows = {line["step"]: line["seconds"] for line in metrics.merged(runs / "whole")}
    price = page.get("/api/run/whole/price?step=17").json()
    assert (price["start"], price["steps"]) == (10, 7)
    assert price["seconds"] == pytest.approx(sum(rows[step] for step in range(10, 17)))
    assert page.get("/api/run/whole/price?step=20").json()["steps"] == 0
    assert page.get("/api/run/whole/price?step=31").status_code == 404


def test_an_event_comes_once_and_again_after_a_change(page, runs):
    import asyncio

    from safelight.web.events import Watcher

    state = page.app.state
    watcher = Watcher(state.views, state.jobs)

    async def look() -> list[str]:
        seen = []
        stream = watcher.events(["whole"])
        assert (await anext(stream)).startswith("retry")
        first = await anext(stream)
        seen.append(first)
        id = first.split("\n")[0].removeprefix("id: ")
        again = watcher.events(["whole"], last=id)  # who comes back with the id of the last one
        await anext(again)
        waiting = asyncio.ensure_future(anext(again))
        await asyncio.sleep(0.7)
        assert not waiting.done()
        with (runs / "whole/journal.jsonl").open("ab") as file:
            file.write(b"\n")
        seen.append(await asyncio.wait_for(waiting, 5))
        await stream.aclose()
        await again.aclose()
        return seen

    first, second = asyncio.run(look())
    assert '"changed": ["whole"]' in first
    assert '"changed": ["whole"]' in second
    assert first.split("\n")[0] != second.split("\n")[0]


def test_fifty_readers_cost_one_look_and_a_slow_one_gets_the_latest(page, runs, monkeypatch):
    import asyncio

    from safelight.web import events

    monkeypatch.setattr(events, "EVERY", 0.05)
    watcher = events.Watcher(page.app.state.views, page.app.state.jobs)
    looked = []
    state = watcher._state
    monkeypatch.setattr(watcher, "_state", lambda subject: looked.append(subject) or state(subject))

    async def main() -> None:
        streams = [watcher.events(["whole"]) for _ in range(50)]
        for stream in streams:
            await anext(stream)
            await anext(stream)
        looked.clear()
        for _ in range(3):  # nobody reads meanwhile
            with (runs / "whole/journal.jsonl").open("ab") as file:
                file.write(b"\n")
            await asyncio.sleep(0.2)
        assert len(looked) < 20
        last = {await asyncio.wait_for(anext(stream), 5) for stream in streams}
        assert len(last) == 1
        assert next(iter(last)).startswith(f"id: {watcher.states['whole']}\n")
        for stream in streams:
            await stream.aclose()

    asyncio.run(main())


def test_a_run_that_changed_is_read_again_in_the_list(page, runs):
    assert page.get("/api/runs").json()["runs"][0]["summary"]["status"] == "finished"
    directory = RunDirectory(runs / "whole")
    with directory.lock():
        assert page.get("/api/runs").json()["runs"][0]["summary"]["status"] == "running"
    assert page.get("/api/runs").json()["runs"][0]["summary"]["status"] == "finished"


def test_a_pinned_checkpoint_has_a_name_and_stays(page, runs, monkeypatch, capsys):
    done = printed(monkeypatch, capsys, runs, "pin", "whole", "--step", "10", "--name", "calm")
    assert done == {"run": "whole", "name": "calm", "step": 10}
    shown = page.get("/api/run/whole").json()
    assert shown["pins"] == {"calm": {"step": 10, "why": "by hand"}}
    assert [mark["name"] for mark in shown["marks"] if mark["kind"] == "pin"] == ["calm"]
    freed = printed(monkeypatch, capsys, runs, "prune", "whole", "--budget", "1 KB", "--dry-run")
    assert 10 not in freed["steps"]
    for words in (
        ("--step", "11", "--name", "x"),
        ("--step", "10", "--name", "best"),
        ("--step", "10", "--name", "A"),
    ):
        assert command(monkeypatch, capsys, "pin", "whole", *words, "--runs", str(runs))[0] == 2
