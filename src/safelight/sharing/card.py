"""The card of a model: what a stranger has to know before using it, from what the run recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safelight.config import flatten
from safelight.render.page import (
    Block,
    Commands,
    Definitions,
    Drawing,
    Notes,
    Page,
    PageSection,
    ReportTable,
    Values,
    drawn,
    render_markdown,
)
from safelight.render.wording import count, duration, number
from safelight.report.copies import copies_blocks
from safelight.report.facts import RunFacts
from safelight.report.run_page import key_figures, measured_value, verdict_blocks
from safelight.report.run_report import read_run
from safelight.store.directory import RunDirectory

SHOWN = ("device", "gpu", "machine", "torch", "precision", "processes", "threads")  # of the environment


def card(directory: RunDirectory, repository: str, licence: str, folder: Path, diffusers: bool) -> str:
    """README.md of a repository of the Hub. folder: of the repository; it may have a sheet.png."""
    run, method = read_run(directory)
    name = repository.rpartition("/")[2]
    commands = [f"safelight pull hub:{repository}", f"safelight sample {name} --n 16 --out sheet.png"]
    sheet = folder / "sheet.png"
    picture = Drawing("sheet", f"Fixed samples at step {run.step:,}.", Path("sheet.png"))
    judged = [line for block in verdict_blocks(run, method) for line in block.lines]
    unknown = f"Not measured: how many samples copy a training image; safelight originals {name} measures it."
    copies: list[Block] = [block for block in copies_blocks(run) if not isinstance(block, Notes)]  # no names
    use = [tuple(commands), *([tuple(_pipeline(repository))] if diffusers else [])]
    sections: dict[str, list[Block]] = {
        "Samples": [picture] if sheet.exists() else [],
        "Use": [Commands(lines) for lines in use],
        "Data": [Values((("", tuple(_data(run))),))],
        "Measurements": list(_measurements(run)),
        "Cost": [Values((("", tuple(_cost(run))),))],
        "Limits": [Notes((_seen(run), *judged))],
        "Copies": copies if copies else [Notes((unknown,))],
        "Repeat it": [
            Notes(("run.slr holds recipe, journal, and the fingerprint of the weights after every step.",)),
            Commands((f"safelight open run.slr --replay {min(40, run.step)}",)),
        ],
    }  # fmt: skip
    page = Page(
        mark="model card",
        title=name,
        summary=method.title,
        key_figures=tuple(key_figures(run)),
        sections=tuple(PageSection(title, tuple(blocks)) for title, blocks in sections.items()),
    )
    conditions = {condition["kind"] for condition in run.data["conditions"].values()}
    task = "text-to-image" if "text" in conditions else "unconditional-image-generation"
    source = run.settings.get("data.path") if run.settings.get("data.source") == "hub" else None
    head: dict[str, Any] = {
        "license": licence,
        "library_name": "diffusers" if diffusers else "safelight",
        "pipeline_tag": task,
        "tags": ["safelight", str(run.settings.get("method.name", ""))],
    } | ({"datasets": [source]} if source else {})
    lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in head.items())  # JSON is YAML, too
    return f"---\n{lines}---\n\n{render_markdown(drawn(folder, page))}"


def _pipeline(repository: str) -> Iterator[str]:
    yield "from diffusers import DiffusionPipeline  # needs the package safelight beside it"
    yield ""
    yield f'pipe = DiffusionPipeline.from_pretrained("{repository}", trust_remote_code=True)'
    yield 'pipe(n=4).images[0].save("sample.png")'


def _data(run: RunFacts) -> Iterator[tuple[str, str]]:
    height, width = run.data["shape"][1:]
    yield "images", f"{run.data['train']:,} of {run.data['name']}"
    yield "held out", f"{run.data['held_out']:,}"
    yield "size", f"{width}x{height}, {run.data['shape'][0]} channels"
    for name, condition in run.data["conditions"].items():
        named = ", ".join(condition["names"][:20]) + (", ..." if len(condition["names"]) > 20 else "")
        yield name, f"{condition['kind']} of {condition['size']:,}" + (f": {named}" if named else "")
    yield "fingerprint", str(run.data["fingerprint"])


def _cost(run: RunFacts) -> Iterator[tuple[str, str]]:
    yield "steps", count(run.step)
    yield "images seen", count(run.images_seen)
    yield "wall time", duration(run.seconds)
    environment = flatten(run.sessions[-1].environment) if run.sessions else {}
    yield from ((name, str(environment[name])) for name in SHOWN if name in environment)


def _measurements(run: RunFacts) -> Iterator[Block]:
    """The newest evaluation of each kind: every value with its floor, and the number of samples."""
    newest = {(metric.basis.get("extractor"), metric.name): metric for metric in run.measured}
    if not newest:
        yield Notes(("No evaluation was made.",))
        return
    rows = [
        (
            metric.name,
            measured_value(metric),
            number(metric.floor),
            metric.basis.get("n", "–"),
            count(metric.step),
        )
        for metric in newest.values()
    ]
    yield ReportTable(("metric", "value", "real against real", "n", "step"), tuple(rows), numeric=1)
    made = {metric.provenance: f"step {count(metric.step)}" for metric in newest.values()}
    yield Definitions(tuple((step, words) for words, step in made.items()), "Measured with")


def _seen(run: RunFacts) -> str:
    epochs = number(run.images_seen / run.dataset_size) if run.dataset_size else "–"
    return (
        f"It saw {run.dataset_size:,} images, each about {epochs} times, and nothing else: what they do not "
        "show it has not learned, and what is wrong in them it may repeat."
    )
