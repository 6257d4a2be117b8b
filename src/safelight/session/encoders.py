"""Encoders that a recipe names by the training they come from, as the files that data and networks read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from safelight.config import UserError
from safelight.language.encoder import open_encoder
from safelight.recipes.recipe import Recipe
from safelight.session.products import Product, Products

TEXT = "data.text_encoder"


def used(recipe: Recipe, products: Products) -> Recipe:
    """The recipe as it is opened, and not recorded: with a path in the place of every encoder it names."""
    places = (TEXT, *(f"network.{role}.path" for role in recipe.networks))
    return recipe.with_changes({key: folder(products[key]) for key in places if key in products})


def folder(product: Product) -> str:
    """The files of an encoder."""
    return product.path


def text_features(recipe: Recipe, texts: Sequence[str]) -> Tensor:
    """What a recipe's own encoder makes of words: (n, T). recipe: as `used`. Raises UserError without one."""
    if not recipe.data.text_encoder:
        raise UserError(
            "condition text: the run knows only features that were computed elsewhere; give text=FEATURES.npy"
        )
    return torch.from_numpy(open_encoder(recipe.data.text_encoder).encode(texts))
