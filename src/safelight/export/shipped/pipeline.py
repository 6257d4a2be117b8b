"""A diffusion model of safelight as a pipeline of diffusers. Needs the package safelight beside diffusers.

    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained("pipe/", trust_remote_code=True)
    pipe(mask="mask.png", n=4).images[0].save("sample.png")

The same seed gives the images that `safelight sample` gives. trust_remote_code runs this file and the one in
denoiser/, and nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from PIL import Image

from safelight.data.space import Codec, Space
from safelight.explore.conditions import from_file
from safelight.samplers.generate import conditions as given_of
from safelight.samplers.generate import generate
from safelight.types import DataSpec


class SafelightPipeline(DiffusionPipeline):
    """A denoiser, and the autoencoder of its latents where it has them."""

    _optional_components = ("vae",)

    def __init__(self, denoiser: Any, vae: Any = None, shift: Any = (), scale: Any = ()) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, vae=vae)
        self.register_to_config(shift=tuple(shift), scale=tuple(scale))

    def space(self) -> Space:
        """Between pixels and what the denoiser sees."""
        if self.vae is None:
            return Space()
        config = self.vae.config
        factor = 2 ** (len(config.block_out_channels) - 1)

        def encode(x: Any) -> Any:
            posterior = self.vae.encode(x).latent_dist
            return posterior.mean, posterior.std

        codec = Codec("vae", "", config.latent_channels, factor, encode, lambda z: self.vae.decode(z).sample)
        return Space(codec, tuple(self.config.shift), tuple(self.config.scale))

    @torch.no_grad()
    def __call__(self, n: int = 1, seed: int = 0, how: Any = None, **conditions: Any) -> Any:
        """n images. conditions: as of `safelight sample`; mask and text are files. how: as
        {"sample.steps": 50}.
        """
        spec, space = self.denoiser.spec, self.space()
        height, width = spec.shape[1] * space.factor, spec.shape[2] * space.factor
        pixels = DataSpec((3, height, width), spec.conditions)
        values = {
            name: from_file(name, str(value), pixels, space.factor)
            if name in ("mask", "text")
            else str(value)
            for name, value in conditions.items()
        }
        given, present = given_of(spec, values, n, self.device)
        how = self.denoiser.recipe.with_changes(how or {}).sample
        nets = {"denoiser": self.denoiser.net.eval()}
        images = space.to_pixels(generate(self.denoiser.method, nets, how, given, present, seed))
        return ImagePipelineOutput([Image.fromarray(np.squeeze(image)) for image in images])
