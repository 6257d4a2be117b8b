"""The HTML of the page: a shell that the modules fill; where no script runs, tables of the same facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from safelight.config import UserError
from safelight.store import size
from safelight.web.jobs import Jobs
from safelight.web.views import Views

HERE = Path(__file__).parent
FOLDERS = ("static", "vendor")
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
SCREENS = ("", "measure", "health", "specimens", "disk", "journal")  # of a run, that are tables

LEFT_OUT = ("data", "environment", "execution", "longest_replay", "fingerprint")  # of a run's facts
TITLES = {"headline": "measured", "verdicts": "health", "floor": "real against real", "basis": "rests on",
          "why": "kept because", "words": "what", "since": "since step", "key": "setting"}  # fmt: skip


class Html(str):
    """Text that is markup already."""


def page(views: Views, jobs: Jobs, path: str, runs: Sequence[str] = ()) -> str:
    """The page at an address. runs: those that it names to be compared."""
    shell = (HERE / "static" / "index.html").read_text(encoding="utf-8")
    try:
        parts = list(_plain(views, jobs, path.strip("/").split("/"), runs))
    except UserError as error:
        parts = [_paragraph(error)]
    return shell.replace("<!-- plain -->", "\n".join([_links("/", "/jobs"), *parts]))


def asset(folder: str, name: str) -> tuple[bytes, str]:
    """A file of the page and its kind. Raises UserError unless the folder's listing has it."""
    if folder not in FOLDERS or name not in {path.name for path in (HERE / folder).iterdir()}:
        raise UserError(f"{folder}/{name}: no such file")
    path = HERE / folder / name
    return path.read_bytes(), KINDS.get(path.suffix, "text/plain")


def _plain(views: Views, jobs: Jobs, at: Sequence[str], runs: Sequence[str]) -> Iterable[str]:
    match at:
        case ["run", name, *screens]:
            yield from _run(views, name, *screens)
        case ["side"]:
            yield from _compared(views, runs)
        case ["jobs"]:
            known = [job.to_dict() for job in [*jobs.all.values()][::-1]]
            yield _table("Jobs", known, "command", "status", "output")
        case ["train"]:
            yield _paragraph("Type safelight train RECIPE, or use a browser with JavaScript.")
        case _:
            runs_ = [{**run["summary"], **run} for run in views.runs()]
            for run in runs_:
                run["run"] = _link(f"/run/{quote(run['name'])}", run["name"])
            yield _table("Runs", runs_, "run", "status", "step", "steps", "headline", "verdicts", "created")


def _run(views: Views, name: str, screen: str = "") -> Iterable[str]:
    run, at = views.run(name), f"/run/{quote(name)}"
    yield _links(*(f"{at}/{each}".rstrip("/") for each in SCREENS))
    match screen:
        case "":
            for sheet in run["sheets"][-1:]:
                yield f'<img src="/api{at}/tiles/{sheet["step"]}.png" alt="Samples at step {sheet["step"]}">'
            yield _pairs(name, {key: value for key, value in run["facts"].items() if key not in LEFT_OUT})
        case "measure":
            yield _table("Evaluations", run["measured"], "name", "value", "floor", "step", "basis")
        case "health":
            yield _table("Health", run["health"], "name", "measured", "expected", "since")
            for finding in run["health"]:
                yield _table(f"What helps against {finding['name']}", finding["remedies"], "words", "command")
        case "specimens":
            pictures = {
                each["id"]: Html(f'<img src="/api{at}/specimens/{each["id"]}.png" alt="">')
                for each in views.kept(name)
            }
            yield _pairs("Kept specimens", pictures)
        case "disk":
            disk = views.disk(name)
            yield _pairs("Disk", {kind: size.words(many) for kind, many in disk["kinds"].items()})
            held = [{**each, "size": size.words(each["bytes"])} for each in disk["checkpoints"]]
            yield _table("Checkpoints", held, "step", "size", "why")
        case "journal":
            known = ("time", "kind", "session")
            said = [
                {"time": entry["time"][:19].replace("T", " "), "kind": entry["kind"],
                 "what": {key: value for key, value in entry.items() if key not in known}}
                for entry in reversed(views.journal(name))
            ]  # fmt: skip
            yield _table("Journal", said, "time", "kind", "what")
        case _:
            yield _paragraph("This screen needs JavaScript.")


def _compared(views: Views, runs: Sequence[str]) -> Iterable[str]:
    facts = views.compared(runs[:4])
    for title, kind in (("What differs", "settings"), ("Machine and versions", "surroundings")):
        yield _table(title, [{"key": row["key"], **row["values"]} for row in facts[kind]], "key", *runs[:4])
    for title, kind in (("Evaluations", "metrics"), ("Cost", "cost")):
        for column in facts[kind]["columns"]:
            rows = [{"run": row["run"], **{name: each["value"] for name, each in row["numbers"].items()}}
                    for row in column["rows"]]  # fmt: skip
            yield _table(title, rows, *dict.fromkeys(key for row in rows for key in row))


def _table(caption: str, rows: Iterable[Mapping[str, Any]], *keys: str) -> str:
    """A row of the table for each, of the values under these keys."""
    head = "".join(f"<th>{escape(TITLES.get(key, key))}</th>" for key in keys)
    return _lines(caption, head, [[_cell(row.get(key)) for key in keys] for row in rows])


def _pairs(caption: str, values: Mapping[str, Any]) -> str:
    return _lines(caption, "", [[escape(key), _cell(value)] for key, value in values.items()])


def _lines(caption: str, head: str, rows: Iterable[Sequence[str]]) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>{body}</table>"


def _cell(value: Any) -> str:
    match value:
        case Html():
            return value
        case None | "" | []:
            return "–"
        case Mapping():
            return "<br>".join(f"{escape(str(key))} {_cell(each)}" for key, each in value.items())
        case list() | tuple():
            return "<br>".join(map(_cell, value))
        case bool() | str():
            return escape(str(value))
        case float():
            return f"{value:.4g}"
        case int():
            return f"{value:,}"
    return escape(str(value))


def _links(*paths: str) -> str:
    return _paragraph(Html(" ".join(_link(path, path.rpartition("/")[2] or "runs") for path in paths)))


def _link(to: str, text: str) -> Html:
    return Html(f'<a href="{escape(to)}">{escape(text)}</a>')


def _paragraph(words: object) -> str:
    return f"<p>{_cell(words)}</p>"
