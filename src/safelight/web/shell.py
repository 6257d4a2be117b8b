"""The HTML of the page: a shell that the modules fill; where no script runs, tables of the same facts."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from safelight.config import UserError
from safelight.web.views import Views

HERE = Path(__file__).parent
FOLDERS = ("static", "vendor")
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


def page(views: Views, path: str) -> str:
    """The page at an address."""
    shell = (HERE / "static" / "index.html").read_text(encoding="utf-8")
    return shell.replace("<!-- plain -->", _plain(views, path))


def asset(folder: str, name: str) -> tuple[bytes, str]:
    """A file of the page and its kind. Raises UserError unless the folder's listing has it."""
    if folder not in FOLDERS or name not in {path.name for path in (HERE / folder).iterdir()}:
        raise UserError(f"{folder}/{name}: no such file")
    path = HERE / folder / name
    return path.read_bytes(), KINDS.get(path.suffix, "text/plain")


def _plain(views: Views, path: str) -> str:
    section, _, name = path.strip("/").partition("/")
    try:
        if section == "run" and name:
            return _table(("what", "value"), _facts(views.run(name)["facts"]))
        rows = [[f'<a href="/run/{escape(run["summary"]["name"])}">{escape(run["summary"]["name"])}</a>',
                 *map(escape, (run["summary"]["status"],
                               f"{run['summary']['step']:,} / {run['summary']['steps']:,}",
                               run["headline"], ", ".join(run["verdicts"]), run["summary"]["created"][:16]))]
                for run in views.runs()]  # fmt: skip
        return _table(("run", "status", "step", "measured", "health", "created"), rows)
    except UserError as error:
        return f"<p>{escape(str(error))}</p>"


def _facts(facts: dict[str, Any]) -> list[list[str]]:
    shown = ("status", "step", "steps", "recipe", "images", "components", "verdicts", "remedies", "replay")
    return [[escape(name), escape(str(facts[name]))] for name in shown]


def _table(titles: tuple[str, ...], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
