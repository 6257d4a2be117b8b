"""A run whose latents are moved: its networks at a step, its conditions, images that gradients go through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from safelight.config import UserError
from safelight.data.images import decode, open_image, orientation, quiet
from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.explore import specimens
from safelight.explore.camera import Camera, picture_of
from safelight.explore.conditions import wanted_of
from safelight.explore.latents import Repeated, SearchSpace, Shell, Styles, spread_of
from safelight.explore.search.judges import Sight
from safelight.explore.specimens import Start
from safelight.loading.dependencies import products_of, used
from safelight.loading.recorded import data_of, pixel_spec_of
from safelight.loading.replay import replay
from safelight.randomness import RowDraw
from safelight.samplers.generate import conditions
from safelight.store.directory import RunDirectory
from safelight.store.listing import owner_of
from safelight.types import Draw, Styled, Tell

STYLES = 4096  # of which mean and deviation are taken


@dataclass(frozen=True)
class Made:
    """Images of some latents."""

    x: Tensor  # (n, C, H, W) in model space
    images: Tensor  # (n, C, H, W) in [0, 1]


class Studio:
    """A run opened at a step. Weights are rounded as for specimens, so that pictures are the same."""

    def __init__(
        self,
        directory: RunDirectory,
        step: int,
        wanted: Mapping[str, str],
        how: Mapping[str, Any] | None = None,
        seed: int | None = 0,
        tell: Tell = lambda line: None,
        progress: Progress | None = None,
    ) -> None:
        """wanted: conditions, in words. how: keys of [sample] to change. seed: of the noise of a
        sampler, None for none. Raises UserError.
        """
        self.directory, self.tell, self.progress, self.seed = directory, tell, progress, seed
        self.camera = Camera(directory, tell, how)
        self.reached = self.camera.at(step)
        self.how = self.reached.recipe.with_changes(dict(how or {})).sample
        self.method, self.nets, self.spec = self.reached.method, self.reached.nets, self.reached.spec
        self.device, self.pixels = self.reached.device, pixel_spec_of(directory)
        if not getattr(self.method, "draws", True):
            raise UserError(f"{directory.name}: encoder runs cannot generate images")
        values = {
            name: wanted_of(name, text, self.spec, self.pixels, self.camera.space.factor, lambda: self.recipe)
            for name, text in wanted.items()
        }
        self.given, self.present = conditions(
            self.spec, values, 1, self.device, lambda: self.camera.examples(1)
        )

    @cached_property
    def recipe(self) -> Any:
        """The recipe with the files of the encoders it names."""
        return used(self.reached.recipe, products_of(self.directory))

    @cached_property
    def pack(self) -> Pack:
        """The data of the run. Raises UserError where they are not what it was trained on."""
        return data_of(self.directory, self.recipe, self.progress)

    @property
    def sight(self) -> Sight:
        """What encoders are opened with."""
        return Sight(self.directory, self.pixels, lambda: self.pack, self.device, self.tell, self.progress)

    @cached_property
    def styled(self) -> bool:
        """Whether the run has styles between latent and image."""
        return isinstance(self.method, Styled)

    @cached_property
    def space(self) -> SearchSpace:
        """Where latents are looked for: among the styles where there are some, else on the shell."""
        one = self.method.latent(RowDraw(0, 0, "shape", range(1), self.device))
        if not isinstance(self.method, Styled):
            return Shell(tuple(one.shape[1:]))
        mean, spread = spread_of(self.styles(RowDraw(0, 0, "styles", range(STYLES), self.device)))
        layers = self.method.style(self.nets, one, self.how).shape[1]
        return Styles(mean, spread, layers, self.styles)

    @torch.no_grad()
    def styles(self, draw: Draw) -> Tensor:
        """Styles (n, size) of fresh latents."""
        assert isinstance(self.method, Styled)
        return self.method.style(self.nets, self.method.latent(draw), self.how)[:, 0].float()

    def make(self, latents: Tensor) -> Made:
        """Images of latents or styles (n, ...), all under the same conditions and noise; differentiable."""
        rows = len(latents)
        given = {name: value.expand(rows, *value.shape[1:]) for name, value in self.given.items()}
        draw = Repeated(specimens.noise(self.seed, self.device), rows)
        with self.reached.autocast():
            x = self.method.sample(
                self.nets, latents, given, self.present.expand(rows), draw, self.how
            ).float()
        own = self.camera.space
        pixels = own.codec.decode(own.latent(x)) if own.codec else x
        return Made(x, ((pixels + 1) / 2).clamp(0, 1))

    def start(self, latent: Tensor) -> Start:
        """What the picture of one latent (1, ...) is made from."""
        return Start(latent, self.given, self.present, specimens.noise(self.seed, self.device), self.styled)

    def picture(self, latent: Tensor) -> NDArray[np.uint8]:
        """The picture of one latent (1, ...), (H, W, C), as a specimen of it has it."""
        return picture_of(
            self.start(latent), self.method, self.nets, self.how, self.camera.space, self.reached.autocast
        )

    def read_image(self, path: Path) -> Tensor:
        """An image file at the size of the run's images: (1, C, H, W) in [0, 1]. Raises UserError."""
        channels, height, width = self.pixels.shape
        try:
            with quiet(), path.open("rb") as file, open_image(file) as image:
                pixels = decode(image, orientation(image), (height, width), channels)
        except Exception as error:  # whatever Pillow raises for a file that is none
            raise UserError(f"{path}: is not a readable picture") from error
        return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].to(self.device) / 255

    def network(self, name: str) -> nn.Module | None:
        """A network that only training needs, such as the discriminator; None where the run has none."""
        if not any(name in phase.trains for phase in self.method.phases):
            return None
        state, _ = replay(owner_of(self.directory, self.reached.step), self.reached.step, self.tell)
        return state.nets[name].eval().requires_grad_(False)
