"""The report of a run: report.md to be read where the run lies, report.html to be sent to others."""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from safelight.config import UserError, flatten
from safelight.loading.in_force import InForce
from safelight.loading.recorded import recipe_of, spec_of
from safelight.monitor.remedies import toml
from safelight.recipe import Recipe
from safelight.render.figure_file import inline_svg
from safelight.render.page import Page, drawn, write_page
from safelight.render.plot import loss_figure
from safelight.report.facts import RunFacts, date, gather
from safelight.report.history import MethodFacts, history_of
from safelight.report.run_origin import Reproduce
from safelight.report.run_page import run_page
from safelight.report.saved_page import saved_page
from safelight.report.vae import bound
from safelight.store import checkpoint_files, listing, retention
from safelight.store.directory import RunDirectory
from safelight.store.durable import mendable, write_text
from safelight.types import Balances


def write_report(directory: RunDirectory) -> Path:
    """Write report.md and report.html from what the run holds. Returns the path of the HTML.

    Raises UserError for a damaged run, or where the disk refuses.
    """
    saved = partial(saved_page, directory)
    return write_page(directory.path, "report", _page(directory), "report", saved)[1]


def save_report(directory: RunDirectory, out: Path, model: Mapping[str, Any] | None = None) -> Path:
    """Write report.html alone, to another place. model: that it draws with. Raises UserError."""
    page = drawn(directory.path, _page(directory))
    with mendable(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, saved_page(directory, page, model))
    return out


def _page(directory: RunDirectory) -> Page:
    run, method = read_run(directory)
    return run_page(run, method, reproduce(directory), date(datetime.now().astimezone().isoformat()))


def read_run(directory: RunDirectory) -> tuple[RunFacts, MethodFacts]:
    """The facts of a run, and what its method says of them. Raises UserError for a damaged run."""
    run = gather(directory)
    if not run.readable:
        raise UserError(run.problems[0])
    return run, method_facts(directory, run)


def method_facts(directory: RunDirectory, run: RunFacts) -> MethodFacts:
    """What the method of a run says of its records. Raises UserError for a recipe that cannot be read."""
    recipe = recipe_of(directory)
    with suppress(UserError):  # of a damaged journal: as it was written
        recipe = InForce.of(directory).recipe_at(max(run.step - 1, 0))
    method, weights = recipe.method(), recipe.plan(int(run.data["train"])).weights_at(run.step)
    return MethodFacts(
        title=describe(recipe, run.data),
        recipe=recipe_of(directory).tree,
        warning=unconditional(recipe, run.data),
        draws=getattr(method, "draws", True),
        weights=weights,
        units=getattr(method, "units", {}),
        equilibria=method.equilibria if isinstance(method, Balances) else {},
        rate=bound(run.record, weights, recipe, spec_of(directory)),
    )


def describe(recipe: Recipe, data: Mapping[str, Any]) -> str:
    """What was trained on what, in a sentence, from the method, the conditions and the data."""
    network = recipe.tree["network"]
    ignored = {*network.get("ignore", ()), *(["label"] if network.get("classes") is False else [])}
    seen = {name: condition for name, condition in data["conditions"].items() if name not in ignored}
    words = {"label": "class", "mask": "mask", "text": "text", "attributes": "attribute"}
    given = " and ".join(words[condition["kind"]] for condition in seen.values())
    method = recipe.method()
    family = getattr(method, "title", recipe.tree["method"]["name"])
    if getattr(method, "draws", True) and "text-to-image" not in family:
        family = f"{f'{given}-conditional' if seen else 'unconditional'} {family}"
    height, width = data["shape"][1:]
    others = (
        f" and {len(data['buckets']) - 1} other shapes of that area" if data.get("buckets", ())[1:] else ""
    )
    where = f"latents of {data['train']:,} images" if "latents" in data else f"{data['train']:,} images"
    return f"{family[0].upper()}{family[1:]}, trained on {where} of {data['name']}, {width}x{height}{others}."


def unconditional(recipe: Recipe, data: Mapping[str, Any]) -> str:
    """That a recipe which takes classes has met images without any condition, in a sentence; "" where not."""
    if data["conditions"] or not recipe.data.labels:
        return ""
    return (
        f"{data['name']} has no classes, so this trains without conditions; set data.labels=false if "
        "that is meant, or give each class a subfolder."
    )


def reproduce(directory: RunDirectory) -> Reproduce:
    """The commands, and the digest that shows whether the same came of them."""
    steps = checkpoint_files.list_steps(directory.path)
    newest = checkpoint_files.directory(directory.path, steps[-1]) if steps else None
    return Reproduce(
        commands=tuple(_commands(directory)),
        digest=checkpoint_files.digest_of(newest) if newest else "",
        step=steps[-1] if steps else None,
        replay=retention.bound_of(directory).text,
    )


def _commands(directory: RunDirectory) -> Iterator[str]:
    """What to type, in the folder where the run was trained, to make it again and to see its digest."""
    chain = [directory, *listing.ancestors(directory)][::-1]
    first = chain[0]
    sessions = first.journal().of_kind("session")
    folder = Path(sessions[0].fields.get("folder", "")) if sessions else Path()
    path = first.path.resolve()
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    where = [] if shown.parent == Path("runs") else ["--runs", str(shown.parent)]
    if folder.is_absolute():
        yield shlex.join(["cd", str(folder)])
    if (missing := first.info().parent) is not None:
        yield f"# {first.name} was forked from run {missing.run}, which is missing: restore it first"
    else:
        yield shlex.join(
            ["safelight", "train", str(shown / "recipe.toml"), "--name", f"{first.name}-again", *where]
        )
    for parent, child in pairwise(chain):
        begun = child.info().parent
        assert begun is not None
        before = flatten(InForce.of(parent).recipe_at(begun.step).tree)
        changes = [f"{key}={toml(value)}" for key, value in flatten(recipe_of(child).tree).items()
                   if before.get(key) != value and not key.startswith("about.")]  # fmt: skip
        words = ["safelight", "fork", f"{parent.name}-again", "--step", str(begun.step), *changes]
        yield shlex.join([*words, "--name", f"{child.name}-again", *where])
    yield shlex.join(["safelight", "show", f"{directory.name}-again", *where])
    parents = [child.info().parent for child in chain[1:]]
    ends = [parent.step if parent else None for parent in [*parents, None]]
    edited = [
        run.name
        for run, end in zip(chain, ends, strict=True)
        for entry in run.journal().of_kind("intervention")[:1]
        if end is None or entry.fields["step"] < end
    ]
    if edited:
        yield f"# settings of {', '.join(edited)} were changed during training; only replay repeats it"


def run_html(directory: RunDirectory) -> str:
    """A run in a notebook: one line, the latest contact sheet, the loss curves; self-contained HTML."""
    run, method = read_run(directory)
    history = history_of(run, method)
    parts = [f"<p><b>{escape(run.name)}</b>, step {run.step:,}: {escape(method.title)}</p>"]
    if run.sheets:
        data = b64encode(run.sheets[-1].path.read_bytes()).decode()
        parts.append(f'<img alt="the fixed samples" src="data:image/png;base64,{data}">')
    if history.components:
        parts.append(inline_svg(loss_figure(history), "loss", "loss over training"))
    return "\n".join(parts)
