"""One file of a run damaged, by chance or by hand: bits, lines, fields, kinds of file, files of elsewhere."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from damage.stage import contents
from damage.world import BITS, EXACT, HALF, STEPS, Trial, bits, sha256
from safelight.store import sealed

STRANGE: list[Any] = [
    None, True, -1, 0, 1 << 70, int("9" * 4000), 1.5, 1e308, "", "x", "\x1b[31mred", "../../home",
    "/dev/zero", [],
    [[[]]], {}, {"a": {}}, "\u202egnp.exe", "a\nb", [None], "00000003", "NaN",
]  # fmt: skip


def box_of(path: Path) -> Path:
    """The box that a path is in."""
    return next(parent for parent in path.parents if parent.name == "box")


def flip(random: Random, path: Path) -> None:
    """One bit."""
    data = bytearray(path.read_bytes())
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


def scribble(random: Random, path: Path) -> None:
    """A stretch of random bytes."""
    data = bytearray(path.read_bytes())
    at = random.randrange(len(data) + 1)
    data[at : at + random.randrange(1, 64)] = random.randbytes(random.randrange(64))
    path.write_bytes(data)


def zeros(random: Random, path: Path) -> None:
    """The end as zeros, as a power cut leaves it."""
    data = path.read_bytes()
    at = random.randrange(len(data) + 1)
    path.write_bytes(data[:at] + bytes(len(data) - at))


def cut(random: Random, path: Path) -> None:
    """The end is missing."""
    data = path.read_bytes()
    path.write_bytes(data[: random.randrange(len(data) + 1)])


def longer(random: Random, path: Path) -> None:
    """Something behind the end."""
    with path.open("ab") as file:
        file.write(
            random.choice([b"\n", b"{}\n", bytes(9), b"\xff\xfe", b'{"kind":"end"}\n', random.randbytes(99)])
        )


def emptied(random: Random, path: Path) -> None:
    """Nothing in it."""
    path.write_bytes(b"")


def deleted(random: Random, path: Path) -> None:
    """Not there."""
    path.unlink()


def huge(random: Random, path: Path) -> None:
    """64 GB, most of it a hole."""
    os.truncate(path, 1 << 36)


def nested(random: Random, path: Path) -> None:
    """200,000 brackets."""
    path.write_bytes(random.choice([b"[", b'{"a":']) * 200_000)


def digits(random: Random, path: Path) -> None:
    """A number of a million digits."""
    path.write_bytes(b'{"step": ' + b"9" * 1_000_000 + b"}\n")


def lines(random: Random, path: Path) -> None:
    """A line gone, twice there, or elsewhere."""
    rows = path.read_bytes().splitlines(keepends=True)
    if rows:
        line = rows.pop(random.randrange(len(rows)))
        for _ in range(random.choice((0, 1, 2))):
            rows.insert(random.randrange(len(rows) + 1), line)
    path.write_bytes(b"".join(rows))


def folder(random: Random, path: Path) -> None:
    """A folder in its place."""
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def fifo(random: Random, path: Path) -> None:
    """A FIFO in its place."""
    path.unlink()
    os.mkfifo(path)


def link(random: Random, path: Path) -> None:
    """A link to something else in its place."""
    path.unlink()
    home = box_of(path) / "home"
    to = random.choice([f"{home}/.ssh/id", f"{home}/thesis", "/dev/zero", "/nowhere", path.name, "/dev/full"])
    path.symlink_to(to)


def of_another(random: Random, path: Path) -> None:
    """The file of the same name, or the same kind, of another run."""
    root = box_of(path) / "runs"
    inside = path.relative_to(root / "x")
    same = root / "other" / inside
    others = (
        [same] if same.is_file() else [p for p in (root / "other").rglob(f"*{path.suffix}") if p.is_file()]
    )
    if others:
        shutil.copyfile(random.choice(sorted(others)), path)
    else:
        emptied(random, path)


def of_elsewhere(random: Random, path: Path) -> None:
    """Another file of the same run, of the same kind where there is one."""
    run = box_of(path) / "runs/x"
    alike = sorted(p for p in run.rglob(f"*{path.suffix}") if p.is_file() and p != path)
    shutil.copyfile(random.choice(alike), path) if alike else cut(random, path)


def fields(random: Random, path: Path) -> None:
    """One field of JSON, or of a line of it, gone, strange or new; sealed again, as a stranger would."""
    data = path.read_bytes()
    try:
        several = path.suffix == ".jsonl"
        texts = data.splitlines() if several else [data]
        index = random.randrange(len(texts))
        parsed = json.loads(texts[index])
        holder = parsed
        while (
            inner := [value for value in holder.values() if isinstance(value, dict) and value]
        ) and random.random() < 0.6:
            holder = random.choice(inner)
        key = random.choice(sorted(holder.keys() - {"check"}))
        what = random.randrange(3)
        if what == 0:
            del holder[key]
        else:
            holder[key if what == 1 else "of a later version"] = random.choice(STRANGE)
        parsed = (
            sealed.seal({k: v for k, v in parsed.items() if k != "check"}) if "check" in parsed else parsed
        )
        texts[index] = json.dumps(parsed).encode()
        path.write_bytes(b"\n".join(texts) + b"\n")
    except (ValueError, IndexError, AttributeError):  # no JSON
        scribble(random, path)


BY_CHANCE = (flip, flip, flip, scribble, zeros, cut, longer, emptied, deleted, lines)
BY_HAND = (huge, nested, digits, folder, fifo, link, of_another, of_elsewhere, fields, fields, fields)
Mutation = Callable[[Random, Path], None]

READERS: tuple[tuple[str, ...], ...] = (
    ("show", "x"), ("show", "x", "--journal"), ("show", "x", "--json"), ("runs",), ("tree",), ("disk", "x"),
    ("specimens", "x", "-n", "2", "--out", "out/n.png"), ("export", "x", "--to", "safetensors", "--out",
    "out/e"),
    ("export-metrics", "x", "--out", "out/m.csv"), ("film", "x", "0.3", "--out", "out/f.mp4"),
    ("sample", "x", "--n", "2", "--step", "3", "--out", "out/t.npz"), ("check", "x"),
)  # fmt: skip
SLOW: tuple[tuple[str, ...], ...] = (("report", "x"), ("log",), ("compare", "x", "other"))
WRITERS: tuple[tuple[str, ...], ...] = (
    ("prune", "x", "--budget", "1KB"), ("tune", "x", "optim.lr=1e-4"), ("specimens", "x", "--keep", "3.4"),
    ("rollback", "x", "--to", "3", "--no-train"), ("fork", "x", "--at", "3", "--name", "f", "--no-train"),
)  # fmt: skip


def kind_of(name: str) -> str:
    """What kind of file of a run it is."""
    head, *rest = Path(name).parts
    stem = Path(name).name if head == "checkpoints" or not rest else Path(name).suffix
    return f"{head}/{stem}" if rest else stem


def mutated(trial: Trial) -> None:
    """A file of a run, finished or not, damaged once or twice; then commands on all runs and on this one."""
    random, family = trial.random, trial.family
    unfinished = random.random() < 0.4
    with trial.boxed(family.half if unfinished else family.finished) as run:
        forged = edited = False
        for _ in range(random.choice((1, 1, 1, 2))):
            files = [
                name for name in contents(run) if (run / name).is_file() and not (run / name).is_symlink()
            ]
            kinds = sorted({kind_of(name) for name in files})
            kind = random.choice(kinds)
            name = random.choice(sorted(name for name in files if kind_of(name) == kind))
            mutation: Mutation = random.choice(random.choice((BY_CHANCE, BY_HAND)))
            mutation(random, run / name)
            forged |= mutation is fields
            edited |= name.startswith("inbox/")
            trial.done.append(f"{name}: {mutation.__name__}")
        trial.check_list()
        for words in random.sample(READERS, 2):
            trial.run(*words)
        if random.random() < 0.06:
            trial.run(*random.choice(SLOW))
        if not forged and random.random() < 0.6:
            trial.check_replay()
        if random.random() < 0.4:
            sampled(trial, unfinished)
        if random.random() < 0.5:
            resumed(trial, run, forged, edited)
        if random.random() < 0.15:
            trial.run(*random.choice(WRITERS))
            trial.check_list()


def sampled(trial: Trial, unfinished: bool) -> None:
    """Samples are those of the step that is named."""
    ended = trial.run("sample", "x", "--n", "2", "--out", "out/s.npz", "--json")
    if ended.code == 0:
        step = int(json.loads(ended.out)["step"])
        true = sha256(trial.box / "out/s.npz") == trial.world.drawn(trial.family.name, step)
        trial.check(EXACT, true, f"samples that are said to be of step {step} are not")
        newest = HALF if unfinished else STEPS
        named = step == newest or f"step {step}" in ended.err or f"checkpoint {step}" in ended.err
        trial.check(EXACT, named, f"samples are of step {step}, not of {newest}, and stderr does not say so")


def resumed(trial: Trial, run: Path, forged: bool, edited: bool) -> None:
    """What goes on ends in the bits of the run that nobody damaged, or is refused.

    edited: an edit that waits was damaged. It is taken whole, or not at all, and then that is said.
    """
    gone = edited and not any((run / "inbox").iterdir())
    ended = trial.run("resume", "x")
    if ended.code == 0 and not forged:
        without = edited and (gone or "refused" in ended.err) and bits(run) == trial.family.plain
        same = without or bits(run) == trial.family.bits
        trial.check(BITS, same, "resume ends well, in other bits")
