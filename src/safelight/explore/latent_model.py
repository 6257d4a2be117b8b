"""A model whose latents are moved: one set of conditions, one noise, images that gradients go through."""

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
from safelight.explore.conditions import conditions_of
from safelight.explore.latents import Repeated, SearchSpace, Shell, Styles, spread_of
from safelight.explore.search.judges import JudgeInputs
from safelight.explore.specimens import Start, picture_of
from safelight.loading.model import Model
from safelight.loading.replay import Replay, replay
from safelight.randomness import RowDraw
from safelight.store.directory import RunDirectory
from safelight.store.listing import owner_of
from safelight.types import Draw, Styled, Tell, Values

STYLES = 4096  # of which mean and deviation are taken


@dataclass(frozen=True)
class Generated:
    """Images of some latents."""

    x: Tensor  # (n, C, H, W) in model space
    images: Tensor  # (n, C, H, W) in [0, 1]


class LatentModel:
    """A model under fixed conditions. Weights are rounded as for specimens, so that pictures are the same."""

    def __init__(
        self,
        directory: RunDirectory,
        step: int,
        conditions: Mapping[str, str],
        how: Mapping[str, Any] | None = None,
        seed: int | None = 0,
        tell: Tell = lambda line: None,
        progress: Progress | None = None,
    ) -> None:
        """conditions: in words. how: keys of [sample] to change. seed: of the noise of a sampler, None for
        none. Raises UserError.
        """
        self.model: Model = Replay(directory, tell).rounded(step).changed(how)
        self.model.require_images()
        self.given, self.present = conditions_of(self.model, conditions, 1)
        self.seed, self.tell, self.progress = seed, tell, progress

    @property
    def pack(self) -> Pack:
        """The run's data. Raises UserError where they are not what it was trained on."""
        return self.model.data.stream(self.progress).pack

    @property
    def judge_inputs(self) -> JudgeInputs:
        """What encoders are opened with."""
        model = self.model
        return JudgeInputs(
            model.directory, model.data.pixels, lambda: self.pack, model.device, self.tell, self.progress
        )

    @cached_property
    def styled(self) -> bool:
        """Whether the run has styles between latent and image."""
        return isinstance(self.model.method, Styled)

    @cached_property
    def space(self) -> SearchSpace:
        """Where latents are looked for: among the styles where there are some, else on the shell."""
        method, device = self.model.method, self.model.device
        latent = method.latent(RowDraw(0, 0, "shape", range(1), device))
        if not isinstance(method, Styled):
            return Shell(tuple(latent.shape[1:]))
        mean, spread = spread_of(self.styles(RowDraw(0, 0, "styles", range(STYLES), device)))
        layers = method.style(self.model.nets, latent, self.model.how).shape[1]
        return Styles(mean, spread, layers, self.styles)

    @torch.no_grad()
    def styles(self, draw: Draw) -> Tensor:
        """Styles (n, size) of fresh latents."""
        method = self.model.method
        assert isinstance(method, Styled)
        return method.style(self.model.nets, method.latent(draw), self.model.how)[:, 0].float()

    def conditions(self, rows: int) -> tuple[Values, Tensor]:
        """The conditions of so many rows: given, and present (rows,)."""
        given = {name: value.expand(rows, *value.shape[1:]) for name, value in self.given.items()}
        return given, self.present.expand(rows)

    def make(self, latents: Tensor) -> Generated:
        """Images of latents or styles (n, ...), all under the same conditions and noise; differentiable."""
        model, rows = self.model, len(latents)
        draw = Repeated(specimens.noise(self.seed, model.device), rows)
        with model.autocast():
            x = model.method.sample(model.nets, latents, *self.conditions(rows), draw, model.how).float()
        space = model.space
        pixels = space.codec.decode(space.latent(x)) if space.codec else x
        return Generated(x, ((pixels + 1) / 2).clamp(0, 1))

    def start(self, latent: Tensor) -> Start:
        """What the picture of one latent (1, ...) is made from."""
        noise = specimens.noise(self.seed, self.model.device)
        return Start(latent, self.given, self.present, noise, self.styled)

    def picture(self, latent: Tensor) -> NDArray[np.uint8]:
        """The picture of one latent (1, ...), (H, W, C), as a specimen of it has it."""
        return picture_of(self.start(latent), self.model)

    def picture_at(self, point: Tensor) -> NDArray[np.uint8]:
        """The picture of a point (d,) of the search space, (H, W, C)."""
        return self.picture(self.space.latents(point[None].to(self.model.device)))

    def read_image(self, path: Path) -> Tensor:
        """An image file at the size of the run's images: (1, C, H, W) in [0, 1]. Raises UserError."""
        channels, height, width = self.model.data.pixels.shape
        try:
            with quiet(), path.open("rb") as file, open_image(file) as image:
                pixels = decode(image, orientation(image), (height, width), channels)
        except Exception as error:  # whatever Pillow raises for a file that is none
            raise UserError(f"{path}: is not a readable picture") from error
        return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].to(self.model.device) / 255

    def network(self, name: str) -> nn.Module | None:
        """A network that only training needs, such as the discriminator; None where the run has none."""
        model = self.model
        if not any(name in phase.trains for phase in model.method.phases):
            return None
        state, _ = replay(owner_of(model.directory, model.step), model.step, self.tell)
        return state.nets[name].eval().requires_grad_(False)
