"""Runs in a notebook: curves and the newest sheet while one trains, and a model under sliders.

Widgets of anywidget (extra `notebook`). Their front end is web/static/notebook.js, with the page's uPlot in
front of it in one module, as a notebook loads no second file.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import anywidget
import traitlets

from safelight.config import UserError
from safelight.explore import directions
from safelight.explore.grid import GridRequest
from safelight.explore.moved import Mover
from safelight.functional import sliders
from safelight.loading.model import Model
from safelight.render.sheet import sheet
from safelight.render.sheet_file import encode_png
from safelight.store import listing
from safelight.store.columns import Columns
from safelight.store.directory import RunDirectory

WEB = Path(__file__).parent / "web"
EVERY = 1.0  # seconds between two looks at a run that trains
IDLE = 3.0  # and at one that does not
BINS = 400  # of a curve, at most
OVER = ("finished", "left", "damaged")  # no row comes after


def _module() -> str:
    plot = (WEB / "vendor" / "uplot.js").read_text("utf-8").replace("export { uPlot as default };", "")
    return f"{plot}\n{(WEB / 'static' / 'notebook.js').read_text('utf-8')}"


class Widget(anywidget.AnyWidget):
    """kind: "live" or "sliders", which the front end draws. state: what it draws, besides the picture."""

    _esm = _module()
    _css = (WEB / "vendor" / "uplot.css").read_text("utf-8")
    kind = traitlets.Unicode().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    picture = traitlets.Bytes(b"").tag(sync=True)  # PNG
    wish = traitlets.Dict().tag(sync=True)  # what the front end asks for: number, values, seed

    def __repr__(self) -> str:
        return str(self.state.get("words", self.kind))

    def _repr_mimebundle_(self, **wanted: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget, and its picture for readers without a kernel."""
        data, metadata = super()._repr_mimebundle_(**wanted) or ({}, {})
        still = {"image/png": b64encode(self.picture).decode()} if self.picture else {}
        return {"text/plain": repr(self), **still, **data}, metadata


def live(directory: RunDirectory) -> Widget:
    """Curves and the newest sheet of a run, kept up to date until it is over or the widget is closed.

    A run that has not begun is waited for. It only reads; a thread of this process looks once a second.
    """
    widget, looker = Widget(kind="live"), _Looker(directory)
    looker.show(widget)
    Thread(target=looker.follow, args=(widget,), daemon=True, name=f"live {directory.name}").start()
    return widget


class _Looker:
    """Reads what is new of a run."""

    def __init__(self, run: RunDirectory) -> None:
        self.run, self.columns, self.sheet = run, Columns(run.path), Path()

    def follow(self, widget: Widget) -> None:
        while widget.comm is not None and widget.state["status"] not in OVER:
            time.sleep(EVERY if widget.state["status"] == "running" else IDLE)
            self.show(widget)

    def show(self, widget: Widget) -> None:
        """What has changed goes to the front end."""
        if not self.run.path.is_dir():
            words = f"{self.run.name}: waiting for it to begin"
            widget.state = {"words": words, "status": "new", "steps": [], "series": {}}
            return
        try:
            listed = listing.summary(self.run)
            self.columns.update()
        except (UserError, OSError) as error:  # while it is written for the first time, or moved away
            widget.state = {**widget.state, "words": str(error), "status": widget.state.get("status", "new")}
            return
        names = [name for name in self.columns.names if name.startswith("raw/")]
        bins = self.columns.bins(names, 0, self.columns.rows and int(self.columns.steps[-1]), BINS)
        series = {name.removeprefix("raw/"): [_short(value) for value in bins.mean[name]] for name in names}
        words = f"{listed.name}: step {listed.step:,} of {listed.steps:,}, {listed.status}"
        if listed.headline:
            words += f"; {listed.headline}"
        widget.state = {
            "words": words,
            "status": listed.status,
            "steps": bins.steps.tolist(),
            "series": series,
        }
        newest = max(self.run.sheets.glob("*.png"), default=Path())
        if newest != self.sheet:
            self.sheet, widget.picture = newest, newest.read_bytes()


def _short(value: float) -> float | None:
    """Six digits; None for what is not finite, which JSON does not have."""
    return float(f"{value:.6g}") if abs(value) < float("inf") else None


def moved_by_hand(model: Model, request: GridRequest) -> Widget:
    """The samples of a traversal under sliders: `request.rows` of them, drawn anew whenever one is moved."""
    mover, given = Mover(), [sliders.read(text, model.spec) for text in request.attributes]
    shown = [_slider(text, *next(iter(slider.ends.items())))
             for text, slider in zip(request.attributes, given, strict=True)]  # fmt: skip
    ranges = map(directions.read, request.directions)
    shown += [_slider(str(moved), "", (moved.low, moved.high)) for moved in ranges]
    shown += [_slider(f"component:{number}", "", (-2.5, 2.5)) for number in request.components]
    names = [each["key"] for each in shown[len(given) :]]

    def draw(values: Sequence[float], seed: int) -> bytes:
        stated: dict[str, str | float] = {}
        for slider, value in zip(given, values, strict=False):
            low, high = next(iter(slider.ends.values()))
            share = (value - low) / (high - low) if high != low else 0.0
            places = slider.at(min(max(share, 0.0), 1.0))
            stated |= {
                name: _class(model, place) if name == "label" else place for name, place in places.items()
            }
        by = dict(zip(names, values[len(given) :], strict=True))
        return encode_png(sheet(mover.images(model, request.rows, seed, stated, by)))

    def answer(change: Mapping[str, Any]) -> None:
        wish = change["new"]
        try:
            seed = int(wish["seed"])
            widget.picture = draw([float(value) for value in wish["values"]], seed)
            widget.state = {**widget.state, "number": wish["number"], "mistake": ""}
        except UserError as error:
            widget.state = {**widget.state, "number": wish["number"], "mistake": str(error)}

    words = f"step {model.step:,}: {request.rows} samples under {len(shown)} sliders"
    state = {"words": words, "sliders": shown, "seed": request.seed, "number": 0, "mistake": ""}
    widget = Widget(kind="sliders", state=state)
    widget.picture = draw([each["value"] for each in shown], request.seed)
    widget.observe(answer, "wish")
    return widget


def _slider(key: str, name: str, ends: tuple[float, float]) -> dict[str, Any]:
    low, high = ends
    whole = name == "label"
    start = low if name else min(max(0.0, min(ends)), max(ends))  # a latent begins where it was drawn
    return {
        "key": key,
        "low": low,
        "high": high,
        "step": 1 if whole else abs(high - low) / 100 or 1,
        "value": start,
    }


def _class(model: Model, number: float) -> str:
    names = model.spec.conditions["label"].names
    return names[round(number)] if names else str(round(number))
