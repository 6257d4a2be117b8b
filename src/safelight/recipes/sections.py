"""The sections of a recipe that no component reads by itself: what it is called, and what is looked at."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from safelight.config import Section


class About(Section):
    """[about]: what a list of recipes says of this one."""

    title: str = ""
    size: str = Field("", description="number of trained parameters, in words")
    time: str = Field("", description="how long it takes, and on what")


class Watch(Section):
    """[watch]: what is looked at while training. None of it changes the weights."""

    every: int = Field(500, ge=1, description="steps between two sheets of the same fixed samples")
    epochs: tuple[float, ...] = Field((), description="further sheets, at the end of these epochs")
    images: int = Field(40, ge=1, le=1000, description="images on a sheet; classes take turns")
    prompts: tuple[str, ...] | None = Field(
        None, min_length=1, description="texts of the sheets, a row each, in place of held-out ones"
    )
    sampler: str | None = Field(None, description="of the sheets; without it that of [sample]")
    steps: int | None = Field(
        None, ge=1, description="of that sampler, few so that looking is quick; without it sample.steps"
    )
    seed: int = Field(0, ge=0, description="of the fixed noises and conditions")
    held_out: int = Field(
        256, ge=0, le=10**6, description="held-out images the losses are measured on; 0 = none"
    )
    film: tuple[str, ...] = Field((), description='specimens that are filmed live, such as ["0.3", "0.5"]')
    film_every: int = Field(10, ge=1, description="steps between two pictures of them")

    @field_validator("film")
    @classmethod
    def _specimens(cls, ids: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [one for one in ids if not re.fullmatch(r"\d{1,12}\.\d{1,9}", one)]:
            raise ValueError(f'{wrong[0]!r} is no specimen; they are STEP.DRAW, such as "0.3"')
        return ids
