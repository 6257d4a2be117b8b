"""safelight data inspect, data pack."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from safelight.cli.options import JsonOption, OnOption, changes_of, examples, print_json
from safelight.config import UserError, check
from safelight.data import open_data
from safelight.data.buckets import MULTIPLE
from safelight.data.config import EMBEDDED, Data
from safelight.data.inspection import Inspection
from safelight.data.inspection import inspect as inspect_data
from safelight.data.source import Note
from safelight.render.sheet import sheet as contact_sheet
from safelight.render.sheet_file import save_png
from safelight.terminal import bar, plain, say

SHOWN = 36  # images on the sheet
LISTED = 10  # bad files, classes and sizes that are named; the others are counted

PathArgument = Annotated[
    str,
    typer.Argument(
        metavar="PATH", help="Folder, .zip, .npz or idx file, or a name: digits, faces, skylines, mnist ..."
    ),
]
KeysArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Data keys to change, e.g. data.size=64."),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option("--processes", min=1, help="Processes that decode images. Default: one per core."),
]


app = typer.Typer()
data = typer.Typer(
    help="Inspect data, or pack it ahead of training.",
    no_args_is_help=True,
    epilog=examples("safelight data inspect photos/", "safelight data pack photos/ data.size=64"),
)
app.add_typer(data, name="data")


@data.command()
def inspect(
    path: PathArgument,
    keys: KeysArgument = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="OUT.png", help="Contact sheet to write. Default: NAME-data.png."),
    ] = None,
    processes: ProcessesOption = None,
    on: OnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show sizes, modes, conditions, copies and bad files, and draw a contact sheet."""
    config = data_of(path, keys)
    with bar() as (_, progress):
        inspection = inspect_data(config, progress, on or processes)
    facts = inspection.facts()
    out = sheet or Path(f"{inspection.name}-data.png")
    shown = facts["images"] > 0
    if shown:
        images, words = inspection.examples(SHOWN)
        columns = 8 if inspection.items.masks else None  # an even number: a mask stands beside its image
        caption = f"{inspection.name}: {facts['images']:,} images"
        save_png(contact_sheet(images, columns, frames=words, caption=caption), out)
    if as_json:
        print_json(
            {"path": config.path, "source": config.source, **facts, "sheet": str(out) if shown else None}
        )
    else:
        print_inspection(inspection, facts, config)
        if shown:
            say(f"sheet:       {out}")
    if not shown:
        raise UserError(f"{plain(inspection.name)}: has no image to show")


@data.command()
def pack(
    path: PathArgument,
    keys: KeysArgument = None,
    processes: ProcessesOption = None,
    on: OnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decode images once, ahead of training. Rerun the command to continue an interrupted packing."""
    config = data_of(path, keys)
    if config.buckets and not config.bucket_multiple:  # stated, so that a network does not change it
        config = config.model_copy(update={"bucket_multiple": MULTIPLE})
    with bar() as (_, progress):
        made = open_data(config, progress, on or processes)
    height, width, channels = made.images.shape[1:]
    if as_json:
        print_json(
            {
                "folder": str(made.folder),
                "images": sum(map(len, made.parts)),
                "shape": [channels, height, width],
                "train": made.trained,
                "held_out": sum(len(part.held_out) for part in made.parts),
                "fingerprint": made.fingerprint,
                "bytes": sum(file.stat().st_size for part in made.parts for file in part.folder.iterdir()),
                "buckets": [[*part.images.shape[1:3], len(part)] for part in made.buckets],
                "left_out": list(made.bad),
                "notes": [asdict(note) for note in made.notes],
            }
        )
        return
    for part in made.parts:
        height, width, channels = part.images.shape[1:]
        say(f"{made.name}: {len(part):,} images of {height}x{width}x{channels} (height, width, channels)")
    held_out = sum(len(part.held_out) for part in made.parts)
    say(f"{made.trained:,} to train on, {held_out:,} held out, {len(made.bad):,} left out as bad")
    if made.layout:
        say(f"read: {plain(made.description())}")
    for note in made.notes:
        say(f"note: {plain(str(note))}")
    for part in made.parts:
        say(f"pack: {part.folder}")
    say(f"train on it: safelight train RECIPE{_train_words(config)}")


def data_of(path: str, keys: list[str] | None) -> Data:
    """The [data] section of a path with keys changed. Raises UserError."""
    section: dict[str, Any] = {"path": path}
    if path in (*EMBEDDED, "mnist", "fashion-mnist") and not Path(path).exists():
        section = {"source": path}
    for name, value in changes_of(keys).items():
        key = name.removeprefix("data.")
        if "." in key:
            raise UserError(f"{name}: only keys of [data] can be changed here")
        section[key] = value
    return check(Data, section, "data")


def _train_words(config: Data) -> str:
    """The words with which `train` finds the same pack."""
    stated = config.model_dump(mode="json", exclude_defaults=True, exclude={"held_out", "flip"})
    words = (
        f"data.{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in stated.items()
    )
    return "".join(f" {shlex.quote(word)}" for word in words)


def print_inspection(inspection: Inspection, facts: dict[str, Any], config: Data) -> None:
    """The facts in lines, each under its title."""

    def line(title: str, text: str) -> None:
        say(f"{title + ':' if title else '':12} {text}")

    bad, total = facts["bad"], facts["images"]
    say(f"{inspection.name}: {_count(total, 'image')}" + (f", {_count(len(bad), 'bad file')}" if bad else ""))
    if facts["layout"]:
        line("read", plain(facts["layout"]))
    line(
        "sizes",
        _sizes(facts["sizes"], "" if config.size else str((facts["fit"] or {"size": [0]})["size"][0])),
    )
    kinds = ", ".join(f"{name} {count:,}" for name, count in facts["formats"].items())
    line("modes", _counts(facts["modes"]) + (f" ({kinds})" if kinds else ""))
    if facts["profiles"]:
        line("profiles", f"{_counts(facts['profiles'])}; converted to sRGB")
    if facts["fit"]:
        for number, words in enumerate(_fits(facts["fit"])):
            line("" if number else "fit", words)
    conditions = facts["conditions"]
    for name, condition in conditions.items():
        line(name, f"{_condition(condition)}, on {condition['images']:,} of {total:,} images")
    if len(conditions) > 1 or any(condition["images"] < total for condition in conditions.values()):
        whole = facts["with_all_conditions"]
        line("together", f"{whole:,} images have every condition; {total - whole:,} train unconditionally")
    captions = facts["captions"]
    if captions["captions"]:
        line("captions", f"{captions['captions']:,} on {captions['images']:,} images")
    split = facts["split"]
    if split:
        line("split", f"{split['train']:,} to train on, {split['held_out']:,} held out, as the data says")
    if groups := facts["groups"]:
        line("groups", f"{groups['groups']:,}, the largest {groups['largest']} with "
                       f"{_count(groups['images'], 'image')}; each on one side of the split")  # fmt: skip
    copies = facts["copies"]
    if copies["images"]:
        first = "; ".join(" = ".join(names[:3]) for names in copies["first"])
        line("copies", f"{_count(copies['images'], 'image')} with the pixels of another: {first}")
    for number, note in enumerate(facts["notes"]):
        line("" if number else "notes", plain(str(Note(**note))))
    for file in bad[:LISTED]:
        line("bad", file)
    if bad:
        rest = f"and {len(bad) - LISTED:,} more; " if len(bad) > LISTED else ""
        line("", f"{rest}repair or remove them, or train with data.skip_bad=true")


def _sizes(sizes: list[dict[str, int]], proposed: str) -> str:
    """proposed: pixels a side, where the recipe states none."""
    named = ", ".join(f"{size['height']}x{size['width']} ({size['images']:,})" for size in sizes[:LISTED])
    if len(sizes) < 2:
        return f"{named} (height x width)"
    heights, widths = [size["height"] for size in sizes], [size["width"] for size in sizes]
    rest = f" and {len(sizes) - LISTED:,} others" if len(sizes) > LISTED else ""
    span = f"heights {min(heights)} to {max(heights)}, widths {min(widths)} to {max(widths)}"
    need = f"; state data.size, such as data.size={proposed}" if proposed else ""
    return f"{named}{rest}; {span}{need}"


def _fits(fit: dict[str, Any]) -> Iterator[str]:
    """What each way to fit would do, a line each."""
    height, width = fit["size"]
    yield f"at {height}x{width} (the median of shorter sides is {fit['median']}); data.fit is {fit['fit']}"
    for way, effect in fit["ways"].items():
        words = [f"{way}:"]
        if effect["most_cut"]:
            words.append(f"cuts {effect['cut']:.0%} on average, at most {effect['most_cut']:.0%} "
                         f"({plain(effect['most_cut_is'])});")  # fmt: skip
        if effect["padded"]:
            words.append(f"{effect['padded']:.0%} of pixels are background;")
        if effect["enlarged"]:
            words.append(f"enlarges {effect['enlarged']:,}, at most {effect['most_enlarged']:.3g} times "
                         f"({plain(effect['most_enlarged_is'])});")  # fmt: skip
        yield " ".join(words).rstrip(";:")
    if len(rows := fit["buckets"]) > 1:
        count = sum(row["images"] for row in rows)
        cut = sum(row["images"] * row["cut"] for row in rows) / count
        yield f"data.buckets={len(rows)}: crops to the nearest of these cut {cut:.0%} on average"
        for row in rows:
            line = (
                f"  {row['height']}x{row['width']}: {_count(row['images'], 'image')}, cuts {row['cut']:.0%}"
            )
            worst = f", at most {row['most_cut']:.0%} ({plain(row['most_cut_is'])})"
            yield line + (worst if row["most_cut"] else "")


def _condition(condition: dict[str, Any]) -> str:
    if "attributes" in condition:
        ranges = (
            f"{name} {ends['least']:.4g} to {ends['most']:.4g}"
            for name, ends in condition["attributes"].items()
        )
        return ", ".join(ranges)
    if "features" in condition:
        return f"{condition['rows']:,} rows of {condition['features']} features"
    if "problem" in condition:
        return str(condition["problem"])
    if "numbers" in condition:
        return (
            "soft, a share of one class" if condition["classes"] == 1 else f"{condition['classes']} classes"
        )
    return f"{len(condition['classes'])} classes: {_counts(condition['classes'])}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _counts(counts: dict[str, int]) -> str:
    named = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:LISTED])
    return named + (f" and {len(counts) - LISTED:,} others" if len(counts) > LISTED else "")
