"""What a click may do: each act is a command of safelight, its words made here from what the page sends.

Nothing passes to a shell. Names of runs come from the listing; a value is one word behind its key and "=".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from safelight.config import UserError
from safelight.web import uploads
from safelight.web.jobs import Placed

KEY = re.compile(r"[a-z_][\w.-]{0,100}")
NEW_NAME = re.compile(r"\w[\w.+=-]{0,99}")
SPECIMEN = re.compile(r"\d{1,12}\.(\d{1,9}|[a-z][a-z0-9-]{0,99})")
RECIPE = re.compile(r"[a-z][a-z0-9-]{0,60}")
SCHEDULE = re.compile("constant|restart|extend")
SIZE = re.compile(r"\d{1,9}(\.\d+)? ?[kKMGT]?B")
HERE, COMPARISON = Placed("."), "compare.html"  # the folder of a job, and what `compare` writes there
FILM, WALK, PAGE = Placed("film.mp4"), Placed("walk.mp4"), Placed("page.html")
PICTURE, PROJECTION, SHEET = Placed("picture"), Placed("project.png"), Placed("data.png")

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Act:
    """words: of the command, from run and options. quick: it need not wait in the queue.

    files: that it makes. inputs: those that came with the options. in_words: a command without --runs, whose
    result is text.
    """

    words: Callable[[str, Options], list[str]]
    quick: bool = False
    files: tuple[str, ...] = ()
    inputs: Callable[[Options], dict[str, bytes]] = lambda options: {}
    in_words: bool = False


def changes(options: Options, key: str = "changes", prefix: str = "") -> list[str]:
    """KEY=VALUE words. Raises UserError for a key that is none, and for a value of several lines."""
    stated = options.get(key) or {}
    if not isinstance(stated, dict):
        raise UserError(f"{key}: expected keys and values")
    words = []
    for name, value in stated.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if not KEY.fullmatch(name) or not name.startswith(prefix):
            raise UserError(f"{name}: is not a key of a recipe")
        if "\n" in text or "\0" in text or len(text) > 4000:
            raise UserError(f"{name}: expected a value on one line")
        words.append(f"{name}={text}")
    return words


def number(options: Options, key: str, least: int = 0) -> int:
    """A whole number. Raises UserError."""
    value = options.get(key)
    if type(value) is not int or not least <= value <= 10**12:
        raise UserError(f"{key}: expected a whole number, at least {least}")
    return value


def text(options: Options, key: str, form: re.Pattern[str]) -> str:
    """A word of a form. Raises UserError."""
    value = options.get(key)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise UserError(f"{key}: {value!r} cannot be one")
    return value


def optional(options: Options, key: str, flag: str, form: re.Pattern[str]) -> list[str]:
    """[flag, word], or nothing where the option is not said."""
    return [flag, text(options, key, form)] if options.get(key) not in (None, "") else []


def count(options: Options, key: str, flag: str, least: int = 0) -> list[str]:
    """[flag, number], likewise."""
    return [flag, str(number(options, key, least))] if options.get(key) is not None else []


def _specimens(options: Options) -> list[str]:
    ids = options.get("ids")
    if not isinstance(ids, list) or not ids or not all(
        isinstance(id, str) and SPECIMEN.fullmatch(id) for id in ids
    ):  # fmt: skip
        raise UserError("ids: expected specimens, such as 16500.28")
    return ids


def _later(options: Options) -> list[str]:
    return ["--no-train"] if options.get("train") is False else []


def _fork(run: str, o: Options) -> list[str]:
    return ["fork", run, "--step", str(number(o, "step")), *changes(o),
            *optional(o, "name", "--name", NEW_NAME), *_later(o)]  # fmt: skip


def _keep(run: str, o: Options) -> list[str]:
    return ["specimens", run, *(word for id in _specimens(o) for word in ("--keep", id))]


def _resume(run: str, o: Options) -> list[str]:
    return ["resume", run, *count(o, "steps", "--steps", 1), *optional(o, "schedule", "--schedule", SCHEDULE)]


def _pin(run: str, o: Options) -> list[str]:
    return ["pin", run, "--step", str(number(o, "step", 1)), "--name", text(o, "name", RECIPE)]


def _film(run: str, o: Options) -> list[str]:
    return ["film", run, *_specimens(o), *changes(o, prefix="sample."), *count(o, "from", "--from"),
            *count(o, "to", "--to"), *count(o, "every", "--every", 1), "--out", FILM]  # fmt: skip


def _walk(run: str, o: Options) -> list[str]:
    return ["walk", run, *_specimens(o), *changes(o, prefix="sample."), *count(o, "frames", "--frames", 2),
            *count(o, "step", "--step"), "--out", WALK]  # fmt: skip


def _train(run: str, o: Options) -> list[str]:
    return ["train", text(o, "recipe", RECIPE), *changes(o), *optional(o, "name", "--name", NEW_NAME)]


def _pick(run: str, o: Options) -> list[str]:
    marks = re.compile(r"\d{1,6}\.(\d{1,6}|none)(,\d{1,6}\.(\d{1,6}|none))*")
    prompt = o.get("prompt")
    if prompt is not None and not (isinstance(prompt, str) and prompt.isprintable()):
        raise UserError("prompt: expected words on one line")
    return ["search", run, "--objective", "pick", *optional(o, "picked", "--picked", marks),
            *(["--prompt", prompt] if prompt else []), *optional(o, "name", "--name", NEW_NAME),
            *count(o, "step", "--step"), *count(o, "population", "--population", 2)]  # fmt: skip


def _compare(run: str, o: Options) -> list[str]:
    names = o.get("others")
    if not isinstance(names, list):
        raise UserError("others: expected names of runs")
    others = [text({"others": name}, "others", NEW_NAME) for name in names]
    return ["compare", run, *others, "--out", HERE]


def _project(run: str, o: Options) -> list[str]:
    stated = o.get("conditions") or {}
    if not isinstance(stated, dict):
        raise UserError("conditions: expected names and values")
    words = []
    for name, value in stated.items():
        line = str(value)
        is_file = name == "mask" or line.lower().endswith((".npy", ".npz"))  # the command would open it
        if not KEY.fullmatch(name) or is_file or not line.isprintable() or len(line) > 1000:
            raise UserError(f"conditions: {name} has to be words; masks and files are for the command line")
        words += ["--condition", f"{name}={line}"]
    return ["project", run, PICTURE, *changes(o, prefix="sample."), *count(o, "steps", "--steps", 1), *words,
            *count(o, "step", "--step"), "--out", PROJECTION]  # fmt: skip


def _inspect(run: str, o: Options) -> list[str]:
    folder = o.get("folder")
    if not isinstance(folder, str) or not folder.isprintable() or not 0 < len(folder) <= 1000:
        raise UserError("folder: expected a path on one line")
    if folder.startswith("-"):
        raise UserError(f"folder: {folder} would be read as an option; write ./{folder}")
    return ["data", "inspect", folder, *changes(o, prefix="data."), "--sheet", SHEET]


ACTS = {
    "tune": Act(lambda run, o: ["tune", run, *changes(o)], quick=True),
    "fork": Act(_fork),
    "rollback": Act(
        lambda run, o: ["rollback", run, "--step", str(number(o, "step", 1)), *changes(o), *_later(o)]
    ),
    "resume": Act(_resume),
    "replay": Act(lambda run, o: ["replay", run, "--step", str(number(o, "step"))]),
    "keep": Act(_keep),
    "film": Act(_film, files=(FILM,)),
    "walk": Act(_walk, files=(WALK,)),
    "search": Act(_pick),
    "project": Act(_project, False, (PROJECTION,), lambda o: {PICTURE: uploads.picture(o.get("picture"))}),
    "evaluate": Act(lambda run, o: ["evaluate", run, *count(o, "step", "--step"), *count(o, "n", "--n", 20)]),
    "pin": Act(_pin, quick=True),
    "save": Act(lambda run, o: ["report", run, "--out", PAGE], files=(PAGE,)),
    "save-comparison": Act(_compare, files=(COMPARISON,)),
    "preview-prune": Act(
        lambda run, o: ["prune", run, *optional(o, "budget", "--budget", SIZE), "--dry-run"], True
    ),
    "prune": Act(lambda run, o: ["prune", run, *optional(o, "budget", "--budget", SIZE)]),
    "inspect": Act(_inspect, quick=True, files=(SHEET,), in_words=True),
    "plan": Act(lambda run, o: ["plan", text(o, "recipe", RECIPE), *changes(o)]),
    "train": Act(_train),
}
WITHOUT_RUN = ("inspect", "plan", "train")
