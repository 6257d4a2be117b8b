"""Runs that a stranger made: links and devices in place of files, false fields sealed well, hostile names."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from damage.mutations import READERS, SLOW, STRANGE, WRITERS
from damage.world import Trial
from safelight.store import sealed

PLACES = (
    "run.json", "recipe.toml", "journal.jsonl", "metrics-0001.jsonl", "metrics-0009.jsonl", "checkpoints",
    "checkpoints/00000003", "checkpoints/00000008", "checkpoints/00000008/manifest.json",
    "checkpoints/00000008/networks.safetensors", "checkpoints/00000005", "sheets", "panels", "report",
    "report.html",
    "report.md", "inbox", "inbox/0.json", "lock", "owner.json", "pins.json", "tape",
    "tape/0001-00000000.tape", "films",
    "films/0001-00000000.reel", "specimens", "specimens/6.1.json", "specimens/6.1.png", "searches",
    "searches/s",
    "evaluations", "evaluations/00000008.json", ".tmp-checkpoints", "checkpoints/.tmp-00000009",
    "checkpoints/00000003.bad",
)  # fmt: skip
ESCAPES = (
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[31mred",
    "line\nsafelight: all is well",
    "\u202eexact\u202c",
    "\x9b31m",
    "a\rb",
)
Craft = Callable[[Random, Path], str]


def instead(path: Path) -> None:
    """Clear a place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def linked(random: Random, run: Path) -> str:
    """A link in place of a file or folder, out of the run or around in a circle."""
    place = run / random.choice(PLACES)
    home = run.parent.parent / "home"
    to: Any = random.choice([home, home / ".ssh", home / ".ssh/id", home / "thesis", run.parent / "other",
    "..",
                             run.parent / "other" / place.relative_to(run), place.name, "/dev/zero",
                             "/dev/full",
                             "/dev/stdin", "/proc/self/mem", "/nowhere/at/all", "/"])  # fmt: skip
    with suppress(NotADirectoryError, FileExistsError):
        instead(place)
        place.symlink_to(to)
    return f"{place.relative_to(run)} -> {to}"


def no_file(random: Random, run: Path) -> str:
    """A FIFO, a socket, a device or a folder in place of a file."""
    place = run / random.choice(PLACES)
    instead(place)
    what = random.choice(("fifo", "socket", "zero", "folder", "many"))
    if what == "fifo":
        os.mkfifo(place)
    elif what == "socket":
        with contextlib.chdir(place.parent), socket.socket(socket.AF_UNIX) as listener:
            listener.bind(place.name)  # a whole path may be too long for a socket
    elif what == "zero" and hasattr(os, "geteuid") and os.geteuid() == 0:
        with suppress(OSError):
            os.mknod(place, 0o20666, os.makedev(1, 5))
    else:
        place.mkdir()
        for number in range(2000 if what == "many" else 1):
            (place / f"{number:08d}").mkdir()
    return f"{place.relative_to(run)}: {what}"


def forged(random: Random, run: Path) -> str:
    """Fields of run.json of any type, sealed."""
    path = run / "run.json"
    fields = sealed.read(path)
    holder = random.choice([fields, fields, fields["facts"], *(v for v in fields["facts"].values() if v)])
    key = random.choice([*sorted(holder), "of a later version"])
    holder[key] = random.choice([*STRANGE, *ESCAPES])
    path.write_bytes(sealed.pretty(fields))
    return f"run.json: {key} = {str(holder[key])[:30]!r}"


def ancestors(random: Random, run: Path) -> str:
    """A run that comes from itself, from a run that comes from it, or from a step that no run can have."""
    fields, other = (sealed.read(path / "run.json") for path in (run, run.parent / "other"))
    to = random.choice(("itself", "a circle", "nowhere"))
    step = random.choice((0, 3, -1, 10**40, 8, 9))
    fields["parent"] = {"run": {"itself": fields["id"], "a circle": "f" * 32, "nowhere": other["id"]}[to],
                        "step": step, "digest": "0" * 64}  # fmt: skip
    if to == "a circle":
        shutil.copytree(run, run.with_name("x2"), symlinks=True)
        second = {**fields, "id": "f" * 32, "parent": {**fields["parent"], "run": fields["id"]}}
        run.with_name("x2").joinpath("run.json").write_bytes(sealed.pretty(second))
    (run / "run.json").write_bytes(sealed.pretty(fields))
    return f"comes from {to} at step {step}"


def entries(random: Random, run: Path) -> str:
    """Lines of the journal that nobody wrote, sealed."""
    path = run / "journal.jsonl"
    head = {"time": "2026-01-01T00:00:00.000+00:00", "session": 1, "edits": 1}
    odd = random.choice([*STRANGE, *ESCAPES])
    entry: dict[str, Any] = random.choice([
        {"kind": "checkpoint", "step": odd, "digest": "0" * 64}, {"kind": "checkpoint"}, {"kind": odd},
        {"kind": "end", "status": odd, "step": 8, "steps": 8, "message": odd}, {"kind": "end", "steps": odd},
        {"kind": "session", "step": odd, "steps": odd}, {"kind": "note", "text": odd}, {"kind": "note"},
        {"kind": "verdict", "name": odd, "begins": True, "step": 2}, {"kind": "verdict"}, {"kind": "remedy"},
        {"kind": "intervention", "id": "x", "step": odd, "changes": {"optim.lr": odd}, "origin": odd,
        "edits": 2},
        {"kind": "intervention", "edits": 2}, {"kind": "intervention", "id": "x", "step": 1, "changes": odd,
         "origin": "cli", "edits": 2}, {"kind": "pin", "name": odd, "step": odd}, {"kind": "fork",
         "run": odd},
        {"kind": "check", "findings": odd}, {"kind": "audit"}, {"kind": "repair", "damaged": odd},
    ])  # fmt: skip
    lines = path.read_bytes().splitlines(keepends=True)
    at = random.choice((0, len(lines), random.randrange(len(lines) + 1)))
    full = {**head, **entry} if random.random() < 0.8 else {**entry}
    lines.insert(at, sealed.line(full))
    path.write_bytes(b"".join(lines))
    return f"journal line {at}: {str(entry)[:70]}"


def rows(random: Random, run: Path) -> str:
    """Rows of metrics that nobody measured."""
    path = run / "metrics-0001.jsonl"
    lines = path.read_text().splitlines()
    index = random.choice((0, len(lines) - 1, random.randrange(len(lines))))
    row = json.loads(lines[index])
    what = random.randrange(5)
    if what == 0:
        row[random.choice(sorted(row))] = random.choice([*STRANGE, *ESCAPES])
    elif what == 1:
        row[f"raw/{random.choice(ESCAPES)}"] = 1.0
    elif what == 2:
        row.pop(random.choice(sorted(row)))
    elif what == 3:
        row["step"] = random.choice((10**18, -5, 7.5, "7"))
    else:
        row["total"] = float("inf")
    lines[index] = json.dumps(row)
    if random.random() < 0.2:
        lines += [""] * 200_000
    path.write_text("\n".join(lines) + "\n")
    return f"metrics row {index}: {what}"


def checkpoints(random: Random, run: Path) -> str:
    """Folders of checkpoints with steps of 40 digits, and manifests that name files elsewhere."""
    last = run / "checkpoints/00000008"
    if random.random() < 0.4:
        name = random.choice(("9" * 40, "00000009", "8", "-0000001", "٣", "00000008 ", "9" * 200))
        with suppress(OSError):
            shutil.copytree(
                last if last.exists() else run / "checkpoints/00000003", run / "checkpoints" / name
            )
        return f"checkpoints/{name[:20]}"
    folder = random.choice(sorted(path for path in (run / "checkpoints").iterdir() if path.name.isdigit()))
    fields = sealed.read(folder / "manifest.json")
    kind = random.choice(("outside", "device", "step", "bytes", "field", "none"))
    if kind in ("outside", "device"):
        name = "../../../../home/.ssh/id" if kind == "outside" else "/dev/zero"
        secret = run.parent.parent / "home/.ssh/id"
        fields["files"][name] = {"sha256": hashlib.sha256(secret.read_bytes()).hexdigest(), "bytes": 6}
    elif kind == "step":
        fields["step"] = random.choice(STRANGE)
    elif kind == "bytes":
        random.choice(list(fields["files"].values()))["bytes"] = random.choice(STRANGE)
    elif kind == "field":
        fields[random.choice(sorted(fields))] = random.choice(STRANGE)
    else:
        fields["files"] = {}
    (folder / "manifest.json").write_bytes(sealed.pretty(fields))
    return f"manifest of {folder.name}: {kind}"


def recipes(random: Random, run: Path) -> str:
    """A recipe of another text with its hash corrected: code elsewhere, values without sense, escapes."""
    path = run / "recipe.toml"
    text = path.read_text()
    code = run.parent.parent / "home/evil.py"
    what = random.choice(("code", "escape", "nan", "nested", "size", "data", "steps"))
    odd = json.dumps(random.choice(ESCAPES))
    changed = {
        "code": text.replace("[network]", f'[network]\npath = "{code}"'),
        "escape": text.replace("[about]", f"[about]\nnote = {odd}").replace(
            'title = "', f"title = {odd[:-1]}"
        ),
        "nan": text.replace("lr = ", "lr = nan #"),
        "nested": "a = " + "[" * 100_000 + "]" * 100_000 + "\n" + text,
        "size": text.replace("width = 4", "width = 1000000").replace(
            "batch_size = 4", "batch_size = 1000000000000"
        ),
        "data": text.replace('source = "digits"', 'source = "folder"\npath = "/dev/zero"'),
        "steps": text.replace("steps = 8", "steps = 99999999999999999999999999"),
    }[what]
    path.write_text(changed)
    fields = sealed.read(run / "run.json")
    fields["recipe_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (run / "run.json").write_bytes(sealed.pretty(fields))
    return f"recipe.toml: {what}"


def small(random: Random, run: Path) -> str:
    """Small files that commands look for: notes, pins, owners, edits, specimens, searches."""
    odd = random.choice([*STRANGE, *ESCAPES])
    name, fields = random.choice([
        ("../.renaming-x.json", {"to": random.choice(("../home/thesis", "other", "x", "../../etc", "",
        "/tmp"))}),
        ("../.renaming-y.json", {"to": random.choice(("../home/thesis", "other", "x", odd))}),
        ("pins.json", {"best": odd}), ("pins.json", {"best": {"step": odd}}), ("pins.json", {str(odd): 8}),
        ("owner.json", {"pid": odd, "host": odd, "since": odd}), ("owner.json", {}),
        ("inbox/0001.json", {"id": odd, "changes": {"optim.lr": odd}, "origin": odd}), ("inbox/a.json", {}),
        ("specimens/3.1.json", {"id": odd}), ("specimens/..%2f.json", {"id": "../../home"}),
        ("specimens/3.9.json", {"id": "3.9", "kept": odd, "source": odd, "verdict": odd, "sample": odd,
        "found": odd}),
        ("searches/z/search.json", {"objective": odd}), ("searches/z/generations.jsonl", {"best": odd}),
        ("evaluations/00000008.json", {"step": odd}),
    ])  # fmt: skip
    path = run / name
    with suppress(NotADirectoryError, FileExistsError):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(sealed.pretty(fields))
    return f"{name}: {str(fields)[:60]}"


def names(random: Random, run: Path) -> str:
    """Files and runs with names that a terminal would obey."""
    name = random.choice(ESCAPES)
    what = random.choice(("run", "file", "specimen", "checkpoint"))
    if what == "run":
        shutil.copytree(run, run.with_name(f"x{name}"), symlinks=True)
    elif what == "file":
        (run / name).write_text("x")
    elif what == "specimen":
        (run / "specimens").mkdir(exist_ok=True)
        (run / "specimens" / f"{name}.json").write_bytes(sealed.pretty({"id": name}))
    else:
        (run / "checkpoints" / name).mkdir()
    return f"a {what} named {name!r}"


CRAFTS: tuple[Craft, ...] = (
    linked, linked, linked, no_file, no_file, forged, forged, ancestors, entries, entries, rows, checkpoints,
    checkpoints, recipes, small, small, names,
)  # fmt: skip


def crafted(trial: Trial) -> None:
    """A run of somebody else, and what one would do with it: look, draw samples, go on,
    let go of checkpoints."""
    random = trial.random
    with trial.boxed(random.choice((trial.family.finished, trial.family.finished, trial.family.half))) as run:
        craft = CRAFTS[trial.number % len(CRAFTS)]
        trial.done.append(craft(random, run))
        trial.check_list()
        for words in (
            *random.sample(READERS, 3),
            *random.sample(WRITERS, 2),
            random.choice((*SLOW, *READERS)),
        ):
            trial.run(*words)
        trial.run("replay", "x", "--to", str(random.randrange(9)))
        trial.run("resume", "x")
        trial.check_list()
