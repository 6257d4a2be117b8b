"""The report of a run: report.md to be read where the run lies, report.html to be sent to others."""

from __future__ import annotations

from pathlib import Path

from safelight.render import page
from safelight.report.facts import ReportFacts
from safelight.report.run_figures import make_figures
from safelight.report.run_view import view
from safelight.store.durable import write_text


def write_report(run: Path, facts: ReportFacts) -> tuple[Path, Path]:
    """Write report.md and report.html into the run's directory; return their paths.

    The Markdown links to pictures in the run (report/*.png are drawn now, sheets were saved while it
    trained). The HTML is one file: pictures, curves and style are inside it, no script, no network.
    Equal facts and files give equal bytes. Words in `facts` are escaped wherever they appear.
    Raises UserError where the disk refuses.
    """
    words = {"facts": facts, "view": view(facts), "figures": make_figures(run, facts)}
    paths = run / "report.md", run / "report.html"
    for path, environment in zip(paths, (page.markdown_environment(), page.html_environment()), strict=True):
        write_text(path, environment.get_template(f"{path.name}.j2").render(words))
    return paths
