"""What of a run goes into one file: all it takes to understand and repeat it, in less than a megabyte."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

from safelight import files
from safelight.config import UserError
from safelight.loading.recorded import recipe_of
from safelight.sharing import signature
from safelight.sharing.archive import Manifest, write
from safelight.store import checkpoint_files, results
from safelight.store.directory import JOURNAL, RECIPE, RUN, RunDirectory, find
from safelight.store.durable import mendable
from safelight.store.journal import LARGE
from safelight.store.listing import ancestors

HOLDS = ("weights", "tape", "data")
SMALL = 1_000_000  # bytes of a file without any of them
METRICS, SHEETS = 600_000, 8  # bytes of metrics, compressed; sheets, at most
SPARE = 20_000  # bytes that names and the manifest take, and a signature
STEP = re.compile(rb'"step":\s*(\d+)')


@dataclass
class Packing:
    """The members of a file, by name."""

    members: dict[str, bytes | Path] = field(default_factory=dict)
    every: int = 1  # row of metrics

    def add(self, directory: RunDirectory, path: Path) -> None:
        """A file of a run, as it is now."""
        with mendable(path):
            content = files.read(path, LARGE, links=False)
        self.members[f"{directory.name}/{path.relative_to(directory.path).as_posix()}"] = content

    def link(self, directory: RunDirectory, folder: Path) -> None:
        """Every file of a folder of a run, read when the archive is written."""
        for path in sorted(folder.iterdir()):
            self.members[f"{directory.name}/{path.relative_to(directory.path).as_posix()}"] = path

    @property
    def bytes(self) -> int:
        """Of what is held in memory, about as the archive will have it."""
        return sum(len(zlib.compress(content)) for content in self.members.values()
                   if isinstance(content, bytes))  # fmt: skip


def share(directory: RunDirectory, out: Path, holds: Sequence[str] = (), key: Path | None = None) -> Manifest:
    """Write a run, and the runs it came from, as one file. Raises UserError.

    holds: "weights", of the newest, first and pinned checkpoints and of the runs it needs; "tape"; "data".
    key: of ssh, to sign it with. Without weights, tape and data it has less than `SMALL` bytes: rows of
    metrics and sheets are left out evenly until it fits.
    """
    if wrong := [name for name in holds if name not in HOLDS]:
        raise UserError(f"--with {wrong[0]}: is not a valid choice; use {', '.join(HOLDS)}")
    if out.suffix != ".slr":
        raise UserError(f"--out {out}: name a file that ends in .slr")
    packing, family = Packing(), [directory, *ancestors(directory)]
    needed = _needed(family) if "weights" in holds else []
    for run in [*family, *needed]:
        for name in (RECIPE, RUN, JOURNAL):
            packing.add(run, run.path / name)
        if (run.path / checkpoint_files.FILE).exists() and "weights" in holds:
            packing.add(run, run.path / checkpoint_files.FILE)
    for path in sorted((directory.path / results.FOLDER).glob("[0-9]*.json")):
        packing.add(directory, path)
    _add_metrics(packing, [*family, *needed])
    _add_sheets(packing, directory)
    if "weights" in holds:
        for run in [*family, *needed]:
            for step in _weights(run, whole=run == directory):
                packing.link(run, checkpoint_files.directory(run.path, step))
    if "tape" in holds:
        if not (tape := directory.path / "tape").is_dir():
            raise UserError(f"{directory.name}: has no tape; leave out --with tape")
        packing.link(directory, tape)
    if "data" in holds:
        _add_data(packing, directory)
    made = partial(Manifest, directory.name, sorted(holds), packing.every, version("safelight"))
    sign: Callable[[bytes], bytes] | None = partial(signature.sign, key=key) if key else None
    return write(out, made, packing.members, sign)


def _needed(runs: Sequence[RunDirectory]) -> list[RunDirectory]:
    """The runs whose weights these were made with, and those that they need in turn."""
    needed: dict[str, RunDirectory] = {}
    waiting = list(runs)
    while waiting:
        run = waiting.pop()
        for product in run.info().facts.products.values():
            name = product.get("run")
            if name and name not in needed:
                needed[name] = find(name, run.path.parent)
                waiting.append(needed[name])
    known = {run.name for run in runs}
    return [run for name, run in sorted(needed.items()) if name not in known]


def _weights(run: RunDirectory, whole: bool) -> list[int]:
    """Steps of a run whose checkpoints go along: the newest good one; of the shared run all that have a name,
    and that it began with. Raises UserError where there is none.
    """
    newest = checkpoint_files.newest_good(run.path, run.digests())
    if newest is None and whole:
        raise UserError(f"{run.name}: has no good checkpoint to share; leave out --with weights")
    steps = {newest.step} if newest else set()
    if whole:
        steps |= {pin.step for pin in checkpoint_files.read_pins(run.path).values()}
    info = run.info()
    if info.parent or info.facts.init:
        steps.add(info.parent.step if info.parent else 0)
    return sorted(steps & set(checkpoint_files.list_steps(run.path)))


def _add_metrics(packing: Packing, runs: Sequence[RunDirectory]) -> None:
    """The metrics of runs, all rows or every k-th, so that they take at most `METRICS` bytes."""
    names = {run: sorted(run.path.glob("metrics-*.jsonl")) for run in runs}
    texts = {
        (run, path): list(files.lines(path, links=False)) for run, paths in names.items() for path in paths
    }
    kept, size, every = texts, 0, 1
    while True:
        joined = {key: b"".join(line + b"\n" for line in lines) for key, lines in kept.items()}
        size = sum(len(zlib.compress(text)) for text in joined.values())
        if size <= METRICS:
            break
        every = max(every + 1, -(-every * size // METRICS))
        kept = {(run, path): _thinned(lines, every, frozenset(run.digests()))
                for (run, path), lines in texts.items()}  # fmt: skip
    packing.every = max(packing.every, every)
    for (run, path), text in joined.items():
        packing.members[f"{run.name}/{path.name}"] = text


def _thinned(lines: Sequence[bytes], every: int, saved: frozenset[int]) -> list[bytes]:
    """The header, the last row, every k-th, and those that lead to a checkpoint, as they are written."""

    def stays(number: int, line: bytes) -> bool:
        match = STEP.search(line)
        after = int(match[1]) + 1 if match else 0
        return number in (0, len(lines) - 1) or after % every == 0 or after in saved

    return [line for number, line in enumerate(lines) if stays(number, line)]


def _add_sheets(packing: Packing, directory: RunDirectory) -> None:
    """Sheets at even distances, the last one always among them, as many as there is room for."""
    paths = sorted(directory.sheets.glob("[0-9]*.png")) if directory.sheets.is_dir() else []
    room = SMALL - SPARE - packing.bytes
    for count in range(min(SHEETS, len(paths)), 0, -1):
        chosen = {paths[-1 - (number * len(paths)) // count] for number in range(count)}
        if sum(path.stat().st_size for path in chosen) <= room:
            for path in sorted(chosen):
                packing.add(directory, path)
            return


def _add_data(packing: Packing, directory: RunDirectory) -> None:
    """The files under data.path. Raises UserError where there are none, or links among them."""
    stated = recipe_of(directory).data.path
    if not isinstance(stated, str) or not Path(stated).exists():
        what = stated or "made or downloaded by name"
        raise UserError(
            f"{directory.name}: its data are not one folder or file here, but {what}; leave out --with data"
        )
    root = Path(stated)
    for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
        name = path.relative_to(root.parent).as_posix()
        if path.is_symlink():
            raise UserError(
                f"{path}: is a link, which a shared file does not hold; put what it leads to in its place"
            )
        if path.is_file() and "/." not in f"/{name}":
            packing.members[f"{directory.name}/data/{name}"] = path
