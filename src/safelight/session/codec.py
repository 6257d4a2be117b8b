"""The autoencoder behind latents: a run of the family "vae", or a diffusers AutoencoderKL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safelight.config import UserError, install
from safelight.data.space import Codec, Space
from safelight.engine.state import State
from safelight.generate import conditions
from safelight.methods.vae import Vae
from safelight.recipes.recipe import Recipe
from safelight.session.products import Product, products_of
from safelight.session.recorded import pixel_spec_of, recipe_of
from safelight.session.watch import evaluated
from safelight.store import checkpoint, keep
from safelight.store.run import RunDirectory
from safelight.types import Batch, DataSpec

KEY = "data.latents.autoencoder"


def open_codec(product: Product, channels: int, device: torch.device) -> Codec:
    """The autoencoder of a product, in evaluation mode, in float32.

    channels: of the images it is to encode. Raises UserError where it cannot.
    """
    codec, own = _of_run(product, device) if product.run else _of_diffusers(product, device)
    if own != channels:
        raise UserError(
            f"{KEY}: {codec.name} is for images of {own} channels, these have {channels}; "
            f"set data.channels={own}"
        )
    return codec


def open_space(directory: RunDirectory, device: torch.device) -> Space:
    """Between the pixels of a run's samples and what its networks see; opens the autoencoder of latents."""
    latents = directory.info().facts.data.get("latents")
    if latents is None:
        return Space()
    codec = open_codec(products_of(directory)[KEY], pixel_spec_of(directory).shape[0], device)
    return Space(codec, tuple(latents["shift"]), tuple(latents["scale"]))


def vae_of(product: Product, device: torch.device) -> tuple[Recipe, Vae, DataSpec, dict[str, nn.Module]]:
    """A VAE trained here, its averaged weights in evaluation mode: recipe, method, data, networks.

    Raises UserError for a run of another method.
    """
    directory = product.directory
    recipe, spec = recipe_of(directory), pixel_spec_of(directory)
    method = recipe.method()
    vae: Any = method
    if not isinstance(vae, Vae):
        raise UserError(f"{KEY}: {product.run} is no autoencoder; name a run of the method vae")
    facts = directory.info().facts
    state = State(method, spec, recipe.plan(int(facts.data["train"])), device, "contiguous")
    assert product.step is not None
    state.load(checkpoint.load(keep.directory(directory.path, product.step)), product.step)
    nets = evaluated(method, state)
    for net in nets.values():
        net.requires_grad_(False)
    return recipe, vae, spec, nets


def _of_run(product: Product, device: torch.device) -> tuple[Codec, int]:
    """The codec of a VAE trained here. Conditions are withheld from it."""
    _, vae, spec, nets = vae_of(product, device)
    if len(vae.latent_shape) != 3:
        raise UserError(
            f"{KEY}: the latents of {product.run} are vectors; train it with a spatial latent, "
            "such as network.encoder.spatial=true"
        )

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = vae.posterior(nets, Batch(x, *_nothing(spec, len(x), x.device), range(0), 0))
        return mean, (logvar / 2).exp()

    def decode(z: Tensor) -> Tensor:
        image: Tensor = vae.decode(nets, z, *_nothing(spec, len(z), z.device))
        return image

    channels, height, _ = vae.latent_shape
    codec = Codec(str(product.run), product.digest, channels, spec.shape[1] // height, encode, decode)
    return codec, spec.shape[0]


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
