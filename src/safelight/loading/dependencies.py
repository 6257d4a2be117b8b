"""What a recipe takes from other trainings: finished runs, or pretrained weights, each known by its digest.

A run records which they were, so that a resumed or replayed one notices that an encoder has changed. An
encoder is written as files that data and networks read; see codecs.py for the autoencoder of latents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from pydantic import BaseModel
from safetensors.torch import save_file
from torch import Tensor

from safelight.config import Reference, UserError, install
from safelight.data.cache import cache_dir
from safelight.language import open_encoder
from safelight.loading.model import Model, RunData, evaluated, state_of
from safelight.loading.recorded import recipe_of, spec_of
from safelight.methods.diffusion import Diffusion
from safelight.methods.joint import Joint
from safelight.networks import finished_flow, towers
from safelight.networks.unet import UNetConfig
from safelight.recipe import Recipe
from safelight.store import checkpoint, checkpoint_files
from safelight.store.directory import RunDirectory, find
from safelight.store.durable import mendable, publish, sha256_of
from safelight.store.listing import summary
from safelight.types import DataSpec

ENCODER = "encoder.json"
WEIGHTS = (".safetensors", ".json")  # files of a folder of pretrained weights; nothing is unpickled
TEXT = "data.text_encoder"


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

    def model(self, recipe: Recipe, spec: DataSpec, device: torch.device) -> Model:
        """The run at that step, frozen. recipe: of the run, as it is opened. Raises UserError."""
        assert self.step is not None
        directory, method = self.directory, recipe.method()
        state = state_of(directory, recipe, method, spec, device)
        state.load(checkpoint.load(checkpoint_files.directory(directory.path, self.step)), self.step)
        nets = evaluated(method, state)
        for net in nets.values():
            net.requires_grad_(False)
        return Model(method, nets, recipe.sample, spec, recipe, RunData(directory, recipe, device), self.step)


Products = Mapping[str, Product]  # by the dotted key of the recipe that names one


def references(recipe: Recipe) -> dict[str, Reference]:
    """Every value of a recipe that names something trained elsewhere, by dotted key."""
    sections: dict[str, Any] = {"data": recipe.data, "method": recipe.method_config}
    flat = len(recipe.networks) == 1
    sections |= {"network" if flat else f"network.{role}": config for role, config in recipe.networks.items()}
    return dict(pair for name, section in sections.items() for pair in _within(section, name))


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
    saved = checkpoint_files.newest_good(directory.path, directory.digests(), tell=bad.append)
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
    files = sorted(file for file in path.rglob("*") if file.suffix in WEIGHTS) if path.is_dir() else [path]
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
    products = {}
    for key, fields in directory.info().facts.products.items():
        before = _recorded(directory, key, fields)
        if before.run:
            product = of_run(before.reference, before.run, directory.path.parent)
        else:
            product = pretrained(key, before.reference)
        if product.digest != before.digest:
            raise UserError(
                f"{directory.path}: {key} = {before.reference} has other weights than the run began with "
                f"({product.digest[:12]}, not {before.digest[:12]}); put them back, or train a new run"
            )
        products[key] = product
    return products


def _recorded(directory: RunDirectory, key: str, fields: Mapping[str, Any]) -> Product:
    """A product as run.json has it. Raises UserError."""
    texts = [fields.get(name) for name in ("reference", "path", "digest")]
    run, step = fields.get("run"), fields.get("step")
    if not all(isinstance(text, str) for text in texts) or not isinstance(run, str | None):
        raise UserError(f"{directory.path}: run.json does not say what {key} was; restore it from a copy")
    return Product(str(texts[0]), run, str(texts[1]), step, str(texts[2]))


def plain(products: Products) -> dict[str, dict[str, Any]]:
    """As JSON says it, for the facts of a run."""
    return {key: asdict(product) for key, product in products.items()}


def used(recipe: Recipe, products: Products) -> Recipe:
    """The recipe as it is opened, and not recorded: with a path in the place of every encoder it names."""
    places = (TEXT, *(f"network.{role}.path" for role in recipe.networks))
    return recipe.with_changes({key: folder(products[key]) for key in places if key in products})


def folder(product: Product) -> str:
    """The files of an encoder or a teacher: as they came, or written into the cache from its run."""
    if product.run is None:
        return product.path
    path = cache_dir("encoders") / product.digest[:24]
    if not any((path / name).is_file() for name in (ENCODER, finished_flow.FACTS)):
        with FileLock(f"{path}.lock"):
            _write(product, path)
    return str(path)


def _write(product: Product, path: Path) -> None:
    """The averaged weights of a run's networks, and what is needed to build them. Raises UserError."""
    directory = product.directory
    named = recipe_of(directory)
    recipe = used(named, products_of(directory))
    if named.method_class is Joint:
        file, describe = ENCODER, _encoder
    elif named.method_class is Diffusion:
        file, describe = finished_flow.FACTS, _teacher
    else:
        raise UserError(f"{product.reference}: {product.run} is neither an encoder (method joint) nor a flow")
    facts = describe(product, recipe, spec_of(directory))
    model = product.model(recipe, spec_of(directory), torch.device("cpu"))
    weights = {f"{role}.{name}" if len(model.nets) > 1 else name: value.contiguous()
               for role, net in model.nets.items() for name, value in net.state_dict().items()}  # fmt: skip
    path.mkdir(exist_ok=True)
    save_file(weights, (path / file).with_suffix(".safetensors"))
    partial = path / f"{file}.partial"
    partial.write_text(json.dumps(facts), encoding="utf-8")
    publish(partial, path / file)


def _encoder(product: Product, recipe: Recipe, spec: DataSpec) -> dict[str, Any]:
    image, text = recipe.networks["image"], recipe.networks["text"]
    if not isinstance(image, towers.ImageTowerConfig) or not isinstance(text, towers.TextTowerConfig):
        raise UserError(f"{product.reference}: only an image_tower with a text_tower can be used elsewhere")
    return {
        "name": product.run,
        "base": recipe.data.text_encoder,
        "channels": spec.shape[0],
        "features": image.features,
        "image": image.model_dump(),
        "text": text.model_dump(),
    }


def _teacher(product: Product, recipe: Recipe, spec: DataSpec) -> dict[str, Any]:
    method, network = recipe.method_config, recipe.networks["denoiser"]
    if method.process != "flow" or not isinstance(network, UNetConfig):
        raise UserError(f"{product.reference}: {product.run} is no flow of a unet, which a teacher has to be")
    return {
        "name": product.run,
        "data": finished_flow.described(spec),
        "prediction": method.prediction,
        "network": network.model_dump(mode="json"),
    }


def text_features(recipe: Recipe, texts: Sequence[str]) -> Tensor:
    """Features of texts by the recipe's encoder: (n, T). recipe: as `used`. Raises UserError without one."""
    if not recipe.data.text_encoder:
        raise UserError(
            "condition text: the run knows only features that were computed elsewhere; give text=FEATURES.npy"
        )
    return torch.from_numpy(open_encoder(recipe.data.text_encoder).encode(texts))
