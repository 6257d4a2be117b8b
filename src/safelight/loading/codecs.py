"""The autoencoder of latents, opened as a codec: a VAE trained here, or an AutoencoderKL of diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safelight.config import UserError, install
from safelight.data.space import Codec, Space
from safelight.loading.dependencies import Product, Products
from safelight.loading.model import Model
from safelight.loading.recorded import pixel_spec_of, recipe_of
from safelight.methods.vae import Vae
from safelight.samplers.generate import conditions
from safelight.store.directory import RunDirectory
from safelight.types import Batch, DataSpec

KEY = "data.latents.autoencoder"  # a run of the family "vae", or a diffusers AutoencoderKL


def open_codec(product: Product, channels: int, device: torch.device) -> Codec:
    """The autoencoder of a product, in evaluation mode, in float32.

    channels: of the images it is to encode. Raises UserError where it cannot.
    """
    codec, expected = _of_run(product, device) if product.run else _of_diffusers(product, device)
    if expected != channels:
        raise UserError(
            f"{KEY}: {codec.name} is for images of {expected} channels, these have {channels}; "
            f"set data.channels={expected}"
        )
    return codec


def open_space(directory: RunDirectory, products: Products, device: torch.device) -> Space:
    """Between the pixels of a run's samples and what its networks see; opens the autoencoder of latents."""
    latents = directory.info().facts.data.get("latents")
    if latents is None:
        return Space()
    codec = open_codec(products[KEY], pixel_spec_of(directory).shape[0], device)
    return Space(codec, tuple(latents["shift"]), tuple(latents["scale"]))


def vae_of(product: Product, device: torch.device) -> Model:
    """A VAE trained here. Raises UserError for a run of another method."""
    recipe = recipe_of(product.directory)
    if not issubclass(recipe.method_class, Vae):
        raise UserError(f"{KEY}: {product.run} is no autoencoder; name a run of the method vae")
    return product.model(recipe, pixel_spec_of(product.directory), device)


def _of_run(product: Product, device: torch.device) -> tuple[Codec, int]:
    """The codec of a VAE trained here. Conditions are withheld from it."""
    model = vae_of(product, device)
    vae: Any = model.method
    if len(vae.latent_shape) != 3:
        raise UserError(
            f"{KEY}: the latents of {product.run} are vectors; train it with a spatial latent, "
            "such as network.encoder.spatial=true"
        )

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        batch = Batch(x, *_nothing(model.spec, len(x), x.device), range(0), 0)
        mean, logvar = vae.posterior(model.nets, batch)
        return mean, (logvar / 2).exp()

    def decode(z: Tensor) -> Tensor:
        image: Tensor = vae.decode(model.nets, z, *_nothing(model.spec, len(z), z.device))
        return image

    channels, height, _ = vae.latent_shape
    factor = model.spec.shape[1] // height
    any_size = all(getattr(part, "multiple", None) for part in (vae.encoder, vae.decoder))
    codec = Codec(str(product.run), product.digest, channels, factor, encode, decode, any_size)
    return codec, model.spec.shape[0]


def _nothing(spec: DataSpec, count: int, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """Conditions that nothing has."""
    nothing = dict.fromkeys(list(spec.conditions)[:1], "none")
    return conditions(spec, nothing, count, device)


def pretrained_autoencoder(product: Product) -> Any:
    """The AutoencoderKL in a folder that diffusers opens, or in its folder vae/. Raises UserError."""
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise UserError(f"{KEY}: needs diffusers; run: {install('pretrained')}") from error
    path = Path(product.path)
    path = path / "vae" if (path / "vae" / "config.json").is_file() else path
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if config.get("_class_name") != "AutoencoderKL":
            raise UserError(f"{KEY}: {path} is a {config.get('_class_name')}, not an AutoencoderKL")
        load: Any = AutoencoderKL.from_pretrained
        model = load(path, use_safetensors=True, torch_dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{KEY}: {path} is no AutoencoderKL of diffusers ({reason})") from error
    return model


def _of_diffusers(product: Product, device: torch.device) -> tuple[Codec, int]:
    """The codec of a diffusers AutoencoderKL."""
    model = pretrained_autoencoder(product)
    model.to(device).eval().requires_grad_(False)

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        posterior = model.encode(x).latent_dist
        return posterior.mean.float(), posterior.std.float()

    def decode(z: Tensor) -> Tensor:
        image: Tensor = model.decode(z).sample
        return image.float()

    factor = 2 ** (len(model.config.block_out_channels) - 1)
    codec = Codec(
        Path(product.reference).name, product.digest, model.config.latent_channels, factor, encode, decode
    )
    return codec, int(model.config.in_channels)
