"""Pictures of specimens, taken with the weights that a run has, or had at any of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from safelight.data.space import Space
from safelight.data.stream import Stream, examples
from safelight.explore import specimens
from safelight.explore.path import between
from safelight.explore.specimens import Specimen, Start, develop, start_of
from safelight.loading.dependencies import open_space, products_of, used
from safelight.loading.recorded import data_of
from safelight.loading.replay import Reach, Reached
from safelight.store.directory import RunDirectory
from safelight.types import Autocast, Batch, Method, Nets, Styled, Tell

Picture = NDArray[np.uint8]  # (H, W, C)


@dataclass(frozen=True)
class FilmSubject:
    """What is taken a picture of: a specimen, or a place on the way from it to another one."""

    one: Specimen
    other: Specimen | None = None
    share: float = 0.0  # of the way


class Camera:
    """Takes pictures of a run's specimens at any step; quickest in the order of steps."""

    def __init__(
        self, directory: RunDirectory, tell: Tell = lambda line: None, how: Mapping[str, Any] | None = None
    ) -> None:
        """how: keys of [sample] to change. Raises UserError for a damaged run."""
        self.directory, self.tell, self._how = directory, tell, dict(how or {})
        self.reach = Reach(directory, tell)
        self._starts: dict[Specimen, Start] = {}

    def at(self, step: int) -> Reached:
        """The run at a step, of which `take` then takes pictures. Raises UserError."""
        return self.reach.at(step)

    def take(self, reached: Reached, subject: FilmSubject) -> Picture:
        """The picture of a subject. Raises UserError."""
        how = reached.recipe.with_changes(self._how).sample
        start = self.start(reached, subject.one)
        if subject.other is not None and subject.share > 0:
            other = self.start(reached, subject.other)
            if start.styled != other.styled:
                start, other = (styled(one, reached, how) for one in (start, other))
            start = between(start, other, subject.share, reached.spec.conditions)
        return picture_of(start, reached.method, reached.nets, how, self.space, reached.autocast)

    def start(self, reached: Reached, one: Specimen) -> Start:
        """What a specimen is made from."""
        if one not in self._starts and one.name:
            self._starts[one] = specimens.read(self.directory, one, reached.spec, reached.device)
        if one not in self._starts:
            seed = reached.recipe.train.seed
            self._starts[one] = start_of(
                one, reached.method, reached.spec, seed, reached.device, self.examples
            )
        return self._starts[one]

    @cached_property
    def space(self) -> Space:
        """Between the pixels of pictures and what the networks see."""
        return open_space(self.directory, self.reach.replay.device)

    def examples(self, count: int) -> Batch:
        """As many real items as there are, up to a number. Raises UserError where the data are gone."""
        replay = self.reach.replay
        pack = data_of(self.directory, used(replay.recipe, products_of(self.directory)))
        return examples(
            Stream(pack, replay.recipe.train.seed, 1, device=replay.device, space=self.space), count
        )


@torch.no_grad()
def styled(start: Start, reached: Reached, how: BaseModel) -> Start:
    """A start as a style, where it is a latent of a method that has styles."""
    if start.styled or not isinstance(reached.method, Styled):
        return start
    return replace(start, latent=reached.method.style(reached.nets, start.latent, how), styled=True)


def picture_of(
    start: Start, method: Method, nets: Nets, how: BaseModel, space: Space, autocast: Autocast
) -> Picture:
    """The picture of a start in pixels, the same wherever it is taken. space: of the run's networks."""
    pixels: Picture = space.to_pixels(develop(start, method, nets, how, autocast))[0]
    return pixels
