"""How a run looks in a notebook."""

from __future__ import annotations

from base64 import b64encode
from html import escape

from safelight.render.figure_file import inline_svg
from safelight.render.plot import loss_figure
from safelight.report.run_report import gather
from safelight.store.directory import RunDirectory


def run_html(directory: RunDirectory) -> str:
    """One line, the latest contact sheet, the loss curves; self-contained HTML."""
    facts = gather(directory)
    parts = [f"<p><b>{escape(facts.name)}</b>, step {facts.step:,}: {escape(facts.summary)}</p>"]
    if facts.sheets:
        data = b64encode((directory.path / facts.sheets[-1].path).read_bytes()).decode()
        parts.append(f'<img alt="the fixed samples" src="data:image/png;base64,{data}">')
    if facts.history.components:
        parts.append(inline_svg(loss_figure(facts.history), "loss", "loss over training"))
    return "\n".join(parts)
