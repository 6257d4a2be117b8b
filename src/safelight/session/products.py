"""What a recipe takes from other trainings: finished runs, or pretrained weights, each known by its digest.

A run records which they were, so that a resumed or replayed one notices that an encoder has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from safelight.config import Reference, UserError, install
from safelight.recipes.recipe import Recipe
from safelight.store import keep
from safelight.store.durable import mendable, sha256_of
from safelight.store.listing import summary
from safelight.store.run import RunDirectory, find

WEIGHTS = (".safetensors", ".json")  # files of a folder of pretrained weights; nothing is unpickled


@dataclass(frozen=True)
class Product:
    """Weights that a recipe takes from elsewhere."""

    reference: str  # as the recipe states it
    run: str | None  # name of the run they come from; None where they are pretrained
    path: str  # of the run, or of the file or folder of pretrained weights
    step: int | None  # of the run's checkpoint
    digest: str  # of the checkpoint, or of the files

    @property
    def directory(self) -> RunDirectory:
        """The run they come from."""
        assert self.run is not None
        return RunDirectory(Path(self.path))


Products = Mapping[str, Product]  # by the dotted key of the recipe that names one


def references(recipe: Recipe) -> dict[str, Reference]:
    """Every value of a recipe that names something trained elsewhere, by dotted key."""
    sections: dict[str, Any] = {"data": recipe.data, "method": recipe.method_config}
    flat = len(recipe.networks) == 1
    sections |= {"network" if flat else f"network.{role}": own for role, own in recipe.networks.items()}
    return dict(found for name, section in sections.items() for found in _within(section, name))


def _within(section: object, name: str) -> Iterator[tuple[str, Reference]]:
    if isinstance(section, Reference):
        yield name, section
    elif isinstance(section, BaseModel):
        for key in type(section).model_fields:
            yield from _within(getattr(section, key), f"{name}.{key}")


def of_run(reference: str, name: str, runs: Path) -> Product:
    """The newest weights of a finished run. Raises UserError where there is none."""
    directory = find(name, runs)
    if (status := summary(directory).status) != "finished":
        raise UserError(f"{reference}: {directory.name} is {status}, not finished; go on with: "
                        f"safelight resume {directory.name}")  # fmt: skip
    bad: list[str] = []
    saved = keep.newest_good(directory.path, directory.digests(), tell=bad.append)
    if saved is None or bad:
        why = f" ({bad[0]})" if bad else ""
        raise UserError(
            f"{reference}: {directory.name} has no good last checkpoint{why}; make it again with: "
            f"safelight resume {directory.name}"
        )
    return Product(reference, directory.name, str(directory.path.absolute()), saved.step, saved.digest)


def pretrained(key: str, reference: str) -> Product:
    """Weights by path, or downloaded from the Hub by id and found in its cache. Raises UserError."""
    path = Path(reference)
    if not path.is_absolute():
        path = _from_hub(key, reference)
    elif not path.exists():
        raise UserError(f"{key}: {reference} does not exist; give a path, a Hub id, run:NAME or recipe:NAME")
    files = sorted(one for one in path.rglob("*") if one.suffix in WEIGHTS) if path.is_dir() else [path]
    if not any(file.suffix == ".safetensors" for file in files):
        raise UserError(
            f"{key}: {reference} holds no .safetensors; nothing else is read, as it could run code"
        )
    with mendable(path):
        names = [file.relative_to(path).as_posix() if file != path else file.name for file in files]
        lines = [f"{name} {sha256_of(file)}\n" for name, file in zip(names, files, strict=True)]
    return Product(reference, None, str(path), None, hashlib.sha256("".join(lines).encode()).hexdigest())


def _from_hub(key: str, reference: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(f"{key}: {reference} is on the Hub; run: {install('pretrained')}") from error
    try:
        return Path(snapshot_download(reference, allow_patterns=[f"*{suffix}" for suffix in WEIGHTS]))
    except Exception as error:  # no such id, no network, and whatever its client raises for them
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{key}: {reference} is no path here, and the Hub does not give it ({reason})"
        ) from error


def products_of(directory: RunDirectory) -> dict[str, Product]:
    """What a run was made with, found again and unchanged. Raises UserError where it is not.

    A run is looked for beside this one, by name, so that a directory of runs can be moved.
    """
    found = {}
    for key, plain in directory.info().facts.products.items():
        was = _recorded(directory, key, plain)
        now = (
            of_run(was.reference, was.run, directory.path.parent)
            if was.run
            else pretrained(key, was.reference)
        )
        if now.digest != was.digest:
            raise UserError(
                f"{directory.path}: {key} = {was.reference} has other weights than the run began with "
                f"({now.digest[:12]}, not {was.digest[:12]}); put them back, or train a new run"
            )
        found[key] = now
    return found


def _recorded(directory: RunDirectory, key: str, plain: Mapping[str, Any]) -> Product:
    """A product as run.json has it. Raises UserError."""
    texts = [plain.get(name) for name in ("reference", "path", "digest")]
    run, step = plain.get("run"), plain.get("step")
    if not all(isinstance(text, str) for text in texts) or not isinstance(run, str | None):
        raise UserError(f"{directory.path}: run.json does not say what {key} was; restore it from a copy")
    return Product(str(texts[0]), run, str(texts[1]), step, str(texts[2]))


def plain(products: Products) -> dict[str, dict[str, Any]]:
    """As JSON says it, for the facts of a run."""
    return {key: asdict(own) for key, own in products.items()}
