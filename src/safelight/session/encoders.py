"""Encoders that a recipe names by the training they come from, as the files that data and networks read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import save_file
from torch import Tensor

from safelight.config import UserError
from safelight.data.cache import cache_dir, move_into_place
from safelight.engine.state import State
from safelight.language.opening import open_encoder
from safelight.methods.joint import Joint
from safelight.networks import image_tower, text_tower
from safelight.recipes.recipe import Recipe
from safelight.session.products import Product, Products, products_of
from safelight.session.recorded import recipe_of, spec_of
from safelight.store import checkpoint, keep

TEXT = "data.text_encoder"


def used(recipe: Recipe, products: Products) -> Recipe:
    """The recipe as it is opened, and not recorded: with a path in the place of every encoder it names."""
    places = (TEXT, *(f"network.{role}.path" for role in recipe.networks))
    return recipe.with_changes({key: folder(products[key]) for key in places if key in products})


def folder(product: Product) -> str:
    """The files of an encoder: as they came, or written into the cache from the run that trained it."""
    if product.run is None:
        return product.path
    path = cache_dir("encoders") / product.digest[:24]
    if not (path / "encoder.json").is_file():
        with FileLock(f"{path}.lock"):
            _write(product, path)
    return str(path)


def _write(product: Product, path: Path) -> None:
    """The averaged weights of both towers, and what is needed to build them. Raises UserError."""
    directory = product.directory
    named = recipe_of(directory)
    if named.method_class is not Joint:
        raise UserError(f"{product.reference}: {product.run} is no encoder; name a run of the method joint")
    recipe, spec = used(named, products_of(directory)), spec_of(directory)
    image, text = recipe.networks["image"], recipe.networks["text"]
    if not isinstance(image, image_tower.Config) or not isinstance(text, text_tower.Config):
        raise UserError(f"{product.reference}: only an image_tower with a text_tower can be used elsewhere")
    method = recipe.method()
    images = int(directory.info().facts.data["train"])
    state = State(method, spec, recipe.plan(images), torch.device("cpu"), "contiguous")
    assert product.step is not None
    state.load(checkpoint.load(keep.directory(directory.path, product.step)), product.step)
    path.mkdir(exist_ok=True)
    weights = {f"{role}.{name}": value.contiguous() for role, net in state.averages.networks.items()
               for name, value in net.state_dict().items()}  # fmt: skip
    save_file(weights, path / "encoder.safetensors")
    facts = {
        "name": product.run,
        "base": recipe.data.text_encoder,
        "channels": spec.shape[0],
        "features": image.features,
        "image": image.model_dump(),
        "text": text.model_dump(),
    }
    partial = path / "encoder.json.partial"
    partial.write_text(json.dumps(facts), encoding="utf-8")
    move_into_place(partial, path / "encoder.json")


def text_features(recipe: Recipe, texts: Sequence[str]) -> Tensor:
    """What a recipe's own encoder makes of words: (n, T). recipe: as `used`. Raises UserError without one."""
    if not recipe.data.text_encoder:
        raise UserError(
            "condition text: the run knows only features that were computed elsewhere; give text=FEATURES.npy"
        )
    return torch.from_numpy(open_encoder(recipe.data.text_encoder).encode(texts))
