"""A run's own records, gathered into the facts a report is made of. Reads the run; trains nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from safelight import files
from safelight.config import UserError
from safelight.evaluate.evaluation import Evaluation
from safelight.explore.samples import columns
from safelight.loading.in_force import InForce
from safelight.loading.recorded import recipe_of, spec_of
from safelight.recipe import Recipe
from safelight.render.sheet import Picture
from safelight.render.sheet_file import read_sheet
from safelight.render.trends import Curve, Event, History
from safelight.render.wording import number, plural
from safelight.report.facts import Measurement, ReportFacts, SessionFacts, SheetFile
from safelight.report.remarks import at, events, remarks
from safelight.report.reproduce import reproduce
from safelight.report.run_pages import write_report as render_report
from safelight.report.vae import bound
from safelight.store import checkpoint_files, listing, metrics, results
from safelight.store.directory import RunDirectory
from safelight.store.journal import Journal, JournalEntry
from safelight.store.listing import Summary, summary
from safelight.types import Balances, DataSpec, Unit

Lines = list[dict[str, Any]]  # of metrics: a value a step does not have is not in its line


def write_report(directory: RunDirectory) -> Path:
    """Write report.md and report.html from what the run holds. Returns the path of the HTML."""
    return render_report(directory.path, gather(directory))[1]


def gather(directory: RunDirectory) -> ReportFacts:
    """Everything the report of a run says. Raises UserError for a damaged run."""
    info, journal = directory.info(), directory.journal()
    measurements, damaged = _measurements(directory)
    lines, short = listing.recorded(directory), summary(directory)
    done = short.step
    recipe = recipe_of(directory)
    with suppress(UserError):  # of a damaged journal: as it was written
        recipe = InForce.of(directory).recipe_at(max(done - 1, 0))
    images = int(info.facts.data["train"])
    sheets = _numbered(directory.sheets, r"\d{1,15}")

    def readable(make: Callable[[Path, str], Picture], paths: Iterable[Path]) -> Iterator[Picture]:
        for path in paths:
            try:
                yield make(path, when(path))
            except UserError as error:
                damaged.append(str(error))

    def when(path: Path) -> str:
        step = int(path.stem.split("-")[0])
        return f"after step {step:,} ({step * recipe.train.batch_size / images:.1f} epochs)"

    return ReportFacts(
        name=directory.name,
        summary=describe(recipe, info.facts.data),
        verdict=_verdict(directory, short, journal, measurements, unconditional(recipe, info.facts.data)),
        unmeasured=_unmeasured(directory, lines, journal, measurements),
        written=at(datetime.now().astimezone().isoformat()),
        recipe={name: own for name, own in recipe_of(directory).tree.items() if name != "about"},
        step=done,
        planned_steps=info.steps,
        history=_history(recipe, lines, directory, done, images),
        sessions=_sessions(journal, lines, done),
        skipped_steps=_skipped(metrics.merged(directory.path)),
        sheets=tuple(SheetFile(int(path.stem), PurePosixPath("sheets", path.name)) for path in sheets),
        samples=tuple(readable(partial(_samples, spec_of(directory)), sheets[-1:])),
        panels=tuple(readable(_panel, _panels(directory))),
        measurements=measurements,
        rate=bound(lines, recipe.plan(images).weights_at(done), recipe, spec_of(directory)),
        best=_best(directory),
        remarks=(*remarks(journal), *damaged, *_mask_shares(info.facts.data)),
        reproduce=reproduce(directory, recipe),
    )


def describe(recipe: Recipe, data: Mapping[str, Any]) -> str:
    """What was trained on what, in a sentence, from the method, the conditions and the data."""
    network = recipe.tree["network"]
    ignored = {*network.get("ignore", ()), *(["label"] if network.get("classes") is False else [])}
    seen = {name: own for name, own in data["conditions"].items() if name not in ignored}
    words = {"label": "class", "mask": "mask", "text": "text", "attributes": "attribute"}
    given = " and ".join(words[own["kind"]] for own in seen.values())
    method = recipe.method()
    family = getattr(method, "title", recipe.tree["method"]["name"])
    if getattr(method, "draws", True) and "text-to-image" not in family:
        family = f"{f'{given}-conditional' if seen else 'unconditional'} {family}"
    height, width = data["shape"][1:]
    where = f"latents of {data['train']:,} images" if "latents" in data else f"{data['train']:,} images"
    return f"{family[0].upper()}{family[1:]}, trained on {where} of {data['name']}, {width}x{height}."


def unconditional(recipe: Recipe, data: Mapping[str, Any]) -> str:
    """That a recipe which takes classes has met images without any condition, in a sentence; "" where not."""
    if data["conditions"] or not recipe.data.labels:
        return ""
    return (
        f"{data['name']} has no classes, so this trains unconditionally; data.labels=false says that it is "
        "meant, a subfolder a class gives it classes."
    )


def _verdict(
    directory: RunDirectory, short: Summary, journal: Journal, measured: Sequence[Measurement], note: str
) -> tuple[str, ...]:
    """Where the run stands, what its monitors and checks say, and what its samples were measured at."""
    own = {entry.fields["name"] for entry in journal.of_kind("verdict")}
    held = [f"{name}{' (since before the fork)' * (name not in own)}" for name in listing.verdicts(directory)]
    found = [one for entry in journal.of_kind("check") for one in entry.fields["findings"]]
    errors = dict.fromkeys(one["code"] for one in found if one["severity"] == "error" and not one["declared"])
    said = [
        f"{short.status.capitalize()}: {short.step:,} of {plural(short.steps, 'step')}.",
        f"Verdicts against it: {', '.join(held)}." if held else "The monitors have no verdict against it.",
    ]
    if errors:
        said.append(f"Faults that the checks before training found: {', '.join(errors)}.")
    if measured:
        last = max(one.step or 0 for one in measured)
        first = next(one for one in measured if (one.step or 0) == last)
        real = f", real images in their place {number(first.floor)}" if first.floor is not None else ""
        said.append(f"{first.name} of its samples at step {last:,}: {number(first.value)}{real}.")
    return (*said, *([note] if note else []))


def _unmeasured(
    directory: RunDirectory, lines: Lines, journal: Journal, measured: Sequence[Measurement]
) -> tuple[str, ...]:
    """What nothing can be said of, and what would measure it."""
    names = {name.partition("/")[0] for line in lines for name in line}
    found = []
    if not measured and "evaluate" not in names and getattr(recipe_of(directory).method(), "draws", True):
        found.append(
            f"how far samples are from real images; safelight evaluate {directory.name} measures it."
        )
    if "held_out" not in names:
        found.append("anything on images that were not trained on (watch.held_out, data.held_out).")
    if not journal.of_kind("check") and not directory.info().parent:
        found.append("whether the recipe has a silent fault: it was trained without checks.")
    return tuple(found)


def _origin(directory: RunDirectory) -> tuple[Event, ...]:
    """Where a fork begins, as a mark on its curves."""
    info, parent = directory.info(), listing.parent_of(directory)
    if info.parent is None:
        return ()
    return (
        Event(
            info.parent.step,
            "fork",
            f"forked from {parent.name if parent else 'another run'}",
            at(info.created),
        ),
    )


def _mask_shares(data: Any) -> tuple[str, ...]:
    """How much of the training pixels is of each class of the masks."""
    if not (shares := data.get("mask_shares")):
        return ()
    names = data["conditions"]["mask"]["names"] or [f"class {number}" for number in range(len(shares))]
    told = ", ".join(f"{name} {share:.1%}" for name, share in zip(names, shares, strict=True))
    return (f"Of the training pixels: {told}.",)


def _history(recipe: Recipe, lines: Lines, directory: RunDirectory, done: int, images: int) -> History:
    names = list(dict.fromkeys(name for line in lines for name in line))
    weights, method = recipe.plan(images).weights_at(done), recipe.method()
    units: Mapping[str, Unit] = getattr(method, "units", {})
    equilibria = method.equilibria if isinstance(method, Balances) else {}
    return History(
        components=tuple(
            replace(
                _curve(lines, f"raw/{name}", name, weight),
                reference=equilibria.get(name),
                note="dotted: where neither network wins" if name in equilibria else "",
            )
            for name, weight in weights.items()
            if f"raw/{name}" in names
        ),
        learning_rates=tuple(
            _curve(lines, name, name.removeprefix("lr/")) for name in names if name.startswith("lr/")
        ),
        held_out=tuple(
            replace(_curve(lines, f"held_out/{name}", name), unit=unit, better=better)
            for name in (name.removeprefix("held_out/") for name in names if name.startswith("held_out/"))
            for unit, better in (units.get(name, ("", "less")),)
        ),
        evaluated=_evaluated(lines, names),
        events=(*_origin(directory), *events(directory.journal(), done)),
        batch_size=recipe.train.batch_size,
        dataset_size=images,
    )


def _evaluated(lines: Lines, names: list[str]) -> tuple[Curve, ...]:
    """The distances measured while training, with the floor of the last evaluation."""
    found = []
    for name in (name.removeprefix("evaluate/") for name in names if name.startswith("evaluate/")):
        if name.startswith(("FD-", "FID", "KID")):  # of the others more is better, and coverage says little
            curve = _curve(lines, f"evaluate/{name}", name)
            floors = [float(line[f"floor/{name}"]) for line in lines if f"floor/{name}" in line]
            found.append(replace(curve, reference=floors[-1] if floors else None))
    return tuple(found)


def _measurements(directory: RunDirectory) -> tuple[tuple[Measurement, ...], list[str]]:
    """The stored evaluations, and what of them is damaged."""
    stored, damaged = results.read_all(directory.path)
    found = []
    for fields in stored:
        try:
            own = Evaluation.of(fields)
        except (AttributeError, LookupError, TypeError, UserError):
            damaged.append("a stored evaluation is not of this version; evaluate again")
            continue
        for name, result in own.results.items():
            found.append(Measurement(name, result.value, own.told, own.step, result.floor, result.spread))
    return tuple(found), damaged


def _best(directory: RunDirectory) -> str:
    best = checkpoint_files.read_pins(directory.path).get(checkpoint_files.BEST)
    if best is None:
        return ""
    return f"Best: step {best.step:,} ({best.why}), kept as the checkpoint {checkpoint_files.BEST!r}."


def _curve(lines: Lines, column: str, name: str, weight: float | None = None) -> Curve:
    """A column at the steps that have it: held-out values and lazy phases are not there at every step."""
    own = [line for line in lines if column in line]
    steps = np.array([line["step"] + 1 for line in own], np.int64)
    return Curve(name, steps, np.array([float(line[column]) for line in own]), weight)


def _sessions(journal: Journal, lines: Lines, done: int) -> tuple[SessionFacts, ...]:
    """Every start of the trainer. One without an end was killed; its time is that of its last entry."""
    starts = journal.of_kind("session")
    firsts = [int(start.fields["step"]) for start in starts]
    sessions = []
    for start, first, following in zip(starts, firsts, [*firsts, done][1:], strict=True):
        own = [entry for entry in journal.entries if entry.session == start.session]
        ended = next((entry for entry in own[::-1] if entry.kind == "end"), None)  # what comes later: a fork
        last = int(ended.fields["step"]) if ended else max(first, following)
        training = sum(float(line["seconds"]) for line in lines if first <= line["step"] < last)
        environment = {"host": start.fields["host"], **start.fields["environment"]}
        sessions.append(
            SessionFacts(
                started=at(start.time),
                first_step=first,
                last_step=last,
                seconds=max(_seconds(start, ended or own[-1]), training),
                training_seconds=training,
                ended=str(ended.fields["status"]) if ended else "killed",
                environment={name: str(value) for name, value in environment.items()},
            )
        )
    return tuple(sessions)


def _skipped(lines: Lines) -> tuple[int, ...]:
    """Steps of which a gradient was not finite, so that the optimiser left the weights alone."""
    return tuple(
        line["step"] + 1
        for line in lines
        if any(
            not math.isfinite(float(value)) for name, value in line.items() if name.startswith("grad_norm/")
        )
    )


def _samples(spec: DataSpec, path: Path, when: str) -> Picture:
    """The images of a sheet, in its own rows."""
    images = read_sheet(path)
    by_class = columns(spec.classes, len(images))
    wide = by_class or max(1, math.isqrt(len(images)))
    whole = images[: len(images) // wide * wide]
    names = spec.conditions["label"].names if by_class else ()
    caption = f"The fixed samples {when}."
    return Picture(whole.reshape(-1, wide, *images.shape[1:]), (), names, caption)


def _numbered(folder: Path, pattern: str) -> list[Path]:
    """The pictures of a folder that are named after their step, in their order."""
    return sorted(path for path in folder.glob("*.png") if re.fullmatch(pattern, path.stem))


def _panels(directory: RunDirectory) -> list[Path]:
    """The family's figures, each as it was first and as it was last; once where training changes nothing."""
    figures: dict[str, list[Path]] = {}
    for path in _numbered(directory.panels, r"\d{1,15}-.+"):
        figures.setdefault(path.stem.split("-", 1)[1], []).append(path)
    shown: list[Path] = []
    for first, *_, last in ((paths[0], *paths) for paths in figures.values()):
        same = first.read_bytes() == last.read_bytes()
        shown += [last] if same else [first, last]
    return shown


def _panel(path: Path, when: str) -> Picture:
    images = read_sheet(path)
    try:
        words = files.parse_json(files.read(path.with_suffix(".json"), links=False))
        return Picture(
            images.reshape(-1, words["wide"], *images.shape[1:]),
            tuple(map(str, words["rows"])),
            tuple(map(str, words["columns"])),
            f"{words['caption']} {when[0].upper()}{when[1:]}.",
        )
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path.with_suffix('.json')}: does not say what is in {path.name}") from error


def _seconds(start: JournalEntry, end: JournalEntry) -> float:
    return (datetime.fromisoformat(end.time) - datetime.fromisoformat(start.time)).total_seconds()
