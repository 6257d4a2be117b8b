"""A run as one file: the page of `safelight web` over answers that are inside it, and the report's tables.

It loads nothing from elsewhere: its policy allows the script and the style inside it, by their digests, and
pictures inside it. Without a script its tables are read.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from safelight.config import UserError
from safelight.files import to_json
from safelight.render.page import Figure, Page, render_html
from safelight.report import plain, saved_pictures, view
from safelight.report.bundle import WEB, bundle
from safelight.store import listing
from safelight.store.columns import Columns
from safelight.store.directory import RunDirectory

LIMIT = 5_000_000  # bytes of a page without a model
BINS = 1000  # of a curve, at most
STATIC, SHEETS = 0.3, 0.85  # shares of what pictures may take, at most: the tables', then the sheets'
SLACK = 4096  # bytes of words about what was left out, and of the policy


def saved_page(
    directory: RunDirectory, page: Page, model: Mapping[str, Any] | None = None, limit: int = LIMIT
) -> str:
    """The file of a run. page: its report, with pictures. model: one to draw with, of export/browser.py.

    limit: bytes, without the model. Pictures that do not fit are reduced, then left out, and the page says
    so. Raises UserError for a damaged run.
    """
    script, style = _script("saved.js"), _style()
    address, held = saved_pictures.address_of(directory.name), _columns(directory)
    run = view.run(directory, held)
    answers = {
        address: {**run, "read_only": True},
        f"{address}/journal": plain.journal(directory),
        f"{address}/curves": view.curves(held, held.names, most=BINS),
    }
    if (parent := listing.parent_of(directory)) is not None:
        before = _columns(parent)
        answers[f"{saved_pictures.address_of(parent.name)}/curves"] = view.curves(
            before, before.names, most=BINS
        )
    screens = [*([("draw", "Draw")] if model else []), ("report", "Report")]
    saved: dict[str, Any] = {"run": directory.name, "written": page.written, "answers": answers,
                             "screens": screens, "pictures": {}, "left_out": []}  # fmt: skip

    bare = saved_pictures.mapped(page, lambda drawing: replace(drawing, figure=Figure("")))
    left = limit - SLACK - len(_filled(bare, saved, script, style, None))
    page, words, used = saved_pictures.reduced(page, int(left * STATIC))
    for pictures, said in (
        saved_pictures.sheets(directory, run["sheets"], int(SHEETS * (left - used))),
        saved_pictures.panels(directory, run["panels"]),
    ):
        kept = saved_pictures.fitting(pictures, left - used)
        used += sum(map(len, kept.values()))
        saved["pictures"] |= kept
        words += said(len(kept))
    run["sheets"][:] = [
        sheet for sheet in run["sheets"] if f"{address}/tiles/{sheet['step']}.png" in saved["pictures"]
    ]
    run["panels"][:] = [
        panel
        for panel in run["panels"]
        if saved_pictures.panel_address(directory, panel) in saved["pictures"]
    ]
    return _filled(page, {**saved, "left_out": words}, script, style, model)


def _filled(
    page: Page, saved: Mapping[str, Any], script: str, style: str, model: Mapping[str, Any] | None
) -> str:
    data = [("saved", "application/json", _json(saved))]
    if model:
        engine = b64encode((WEB / "vendor" / "ort.wasm.deflate").read_bytes()).decode("ascii")
        data += [("model", "application/json", _json(model)), ("engine", "text/plain", engine),
                 ("drawer", "text/plain", _script("drawer.js"))]  # fmt: skip
    return render_html(
        "saved.html.j2",
        page=page,
        left_out=saved["left_out"],
        policy=policy(script, style, draws=model is not None),
        style=Markup(style),
        script=Markup(script),
        data=[(id, kind, Markup(text)) for id, kind, text in data],
    )


def policy(script: str, style: str, draws: bool) -> str:
    """What the page may do: run this script, use this style, show pictures inside it; draw in a worker."""
    allowed = [b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") for text in (script, style)]
    compile, worker = (" 'wasm-unsafe-eval'", "worker-src blob:; ") if draws else ("", "")
    return (
        f"default-src 'none'; script-src 'sha256-{allowed[0]}'{compile}; style-src 'sha256-{allowed[1]}'; "
        f"img-src data: blob:; {worker}base-uri 'none'; form-action 'none'"
    )


def _script(entry: str) -> str:
    text = bundle(entry)
    if "</script" in text.lower() or "<!--" in text:
        raise UserError(f"web/static/{entry}: holds the end of a script, or a comment of HTML")
    return text


def _style() -> str:
    shared = [(WEB / path).read_text(encoding="utf-8") for path in ("vendor/uplot.css", "static/style.css")]
    return "".join([*shared, files("safelight.render").joinpath("templates/saved.css").read_text("utf-8")])


def _json(value: Any) -> str:
    """JSON that no name in it can end."""
    return to_json(value).replace("<", "\\u003c")


def _columns(directory: RunDirectory) -> Columns:
    held = Columns(directory.path)
    held.update()
    return held
